//! How well rewards tell liked answers from disliked ones: what an accuracy is where there are no pairs.

/// One rated answer and its reward.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rated {
    /// The example, and then the record that it comes from.
    from: usize,
    reward: f64,
    liked: bool,
}

/// The rated answers of an update or of an evaluation; the room is used again.
#[derive(Debug, Default)]
pub(super) struct Ratings(Vec<Rated>);

impl Ratings {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes in an example's answer.
    pub(super) fn push(&mut self, example: usize, reward: f64, liked: bool) {
        self.0.push(Rated { from: example, reward, liked });
    }

    /// Of how many pairs of a liked and a disliked answer the liked one has the larger reward, and how many pairs there are. Pairs are those of
    /// one record where there are such (a preference that was taken apart), else any liked with any disliked answer: the area under the
    /// receiver operating characteristic, times their number. Ties count as wrong, as in pairs. `record`: where an example comes from.
    /// Forgets them.
    pub(super) fn ordered(&mut self, record: impl Fn(usize) -> usize) -> (u64, u64) {
        self.0.iter_mut().for_each(|rated| rated.from = record(rated.from));
        self.0.sort_unstable_by(|a, b| a.from.cmp(&b.from).then(b.liked.cmp(&a.liked)).then(a.reward.total_cmp(&b.reward)));
        let (mut right, mut all) = (0, 0);
        for one in self.0.chunk_by(|a, b| a.from == b.from) {
            let (liked, disliked) = one.split_at(one.partition_point(|r| r.liked));
            all += (liked.len() * disliked.len()) as u64;
            right += liked.iter().map(|l| disliked.partition_point(|d| d.reward < l.reward) as u64).sum::<u64>();
        }
        if all > 0 {
            self.clear();
            return (right, all);
        }
        self.0.sort_unstable_by(|a, b| b.liked.cmp(&a.liked).then(a.reward.total_cmp(&b.reward)));
        let (liked, disliked) = self.0.split_at(self.0.partition_point(|r| r.liked));
        right = liked.iter().map(|l| disliked.partition_point(|d| d.reward < l.reward) as u64).sum();
        all = (liked.len() * disliked.len()) as u64;
        self.clear();
        (right, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(all: &[(usize, f64, bool)]) -> (u64, u64) {
        let mut ratings = Ratings::default();
        all.iter().for_each(|&(record, reward, liked)| ratings.push(record, reward, liked));
        ratings.ordered(|i| i)
    }

    #[test]
    fn answers_of_different_prompts_are_compared_where_none_share_one() {
        assert_eq!(ordered(&[(0, 1.0, true), (1, 0.5, false), (2, 0.75, true), (3, 0.875, false), (4, 0.75, false)]), (4, 6));
    }

    #[test]
    fn answers_of_one_record_are_compared_with_each_other_alone() {
        assert_eq!(ordered(&[(0, 1.0, true), (0, 2.0, false), (1, 3.0, true), (1, 0.0, false), (2, 9.0, false)]), (1, 2));
    }

    #[test]
    fn likes_alone_and_nothing_have_no_pairs() {
        assert_eq!((ordered(&[(0, 1.0, true), (1, 2.0, true)]), ordered(&[])), ((0, 0), (0, 0)));
    }
}
