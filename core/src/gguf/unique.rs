//! Finding a name that occurs twice, in fixed memory.

/// Names that are compared with all others at once.
const BATCH: usize = 96;
const SLOTS: usize = 128;

/// The indices of two equal names: the first two in the order in which batches of names are compared with what follows them.
///
/// Time: a table look-up for each pair of a batch and a later name, so n²/200 look-ups.
pub(super) fn duplicate<'a>(mut names: impl Iterator<Item = (usize, &'a str)> + Clone) -> Option<(usize, usize)> {
    loop {
        let mut table = Table { slots: [None; SLOTS] };
        for _ in 0..BATCH {
            let (index, name) = names.next()?;
            if let Some(first) = table.find_or_insert(index, name) {
                return Some((first, index));
            }
        }
        for (index, name) in names.clone() {
            if let Some(first) = table.find(name) {
                return Some((first, index));
            }
        }
    }
}

/// Open addressing; never full.
struct Table<'a> {
    slots: [Option<(u32, usize, &'a str)>; SLOTS],
}

impl<'a> Table<'a> {
    fn find(&self, name: &str) -> Option<usize> {
        let hash = hash(name);
        for step in 0..SLOTS {
            let (h, index, known) = (*self.slots.get((hash as usize).wrapping_add(step) % SLOTS)?)?;
            if h == hash && known == name {
                return Some(index);
            }
        }
        None
    }

    fn find_or_insert(&mut self, index: usize, name: &'a str) -> Option<usize> {
        let hash = hash(name);
        for step in 0..SLOTS {
            let slot = self.slots.get_mut((hash as usize).wrapping_add(step) % SLOTS)?;
            match *slot {
                Some((h, first, known)) if h == hash && known == name => return Some(first),
                Some(_) => {}
                None => {
                    *slot = Some((hash, index, name));
                    return None;
                }
            }
        }
        None
    }
}

/// FNV-1a, 32 bits.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_found_wherever_it_stands() {
        // Names of 1000 different lengths are different names.
        let long = core::str::from_utf8(&[b'a'; 1000]).unwrap_or("");
        let name = |i: usize| long.get(..i).unwrap_or("");
        assert_eq!(duplicate((0..1000).map(|i| (i, name(i)))), None);
        for (first, second) in [(0, 1), (0, 999), (95, 96), (3, 500), (500, 999), (998, 999)] {
            let with = (0..1000).map(|i| (i, name(if i == second { first } else { i })));
            assert_eq!(duplicate(with), Some((first, second)));
        }
    }
}
