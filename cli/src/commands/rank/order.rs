//! What a person types below the answers.

/// Answers of the most that are shown: letters up to here leave the commands' words apart.
pub(super) const MOST: usize = 16;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Places of answers, best first: two or more.
    Order(Vec<usize>),
    /// A better wording of this answer is to come.
    Edit(usize),
    /// On to the next prompt.
    Skip,
    /// No more.
    Quit,
    /// What may be typed.
    Help,
}

/// The letter of a place.
pub(super) fn letter(place: usize) -> char {
    char::from(b'a' + place.min(25) as u8)
}

/// An order of so many answers, to show how one is typed.
pub(super) fn example(count: usize) -> String {
    let swapped = |place| if place < 2 { 1 - place } else { place };
    (0..count).map(|place| letter(swapped(place)).to_string()).collect::<Vec<_>>().join(" ")
}

/// Reads a line about `count` answers: letters best first, apart or in one word, with spaces, commas or `>` between; or a command.
///
/// # Errors
/// A sentence that says what was expected and what was found.
pub(super) fn parse(line: &str, count: usize) -> Result<Reply, String> {
    let text = line.trim().to_lowercase();
    let command = text.strip_prefix('/').unwrap_or(&text);
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match (word, rest.trim()) {
        ("skip", "") => return Ok(Reply::Skip),
        ("quit" | "exit", "") => return Ok(Reply::Quit),
        ("help" | "?", "") => return Ok(Reply::Help),
        ("edit", answer) => return edit(answer, count),
        _ if text.starts_with('/') => {
            return Err(format!("expected /edit with a letter, /skip, /quit or /help, found {text:?}"));
        }
        _ => {}
    }
    let expected =
        |found: String| Err(format!("expected letters from a to {}, best first, as {}; found {found}", letter(count - 1), example(count)));
    let mut order = Vec::new();
    for c in text.chars() {
        match c {
            ' ' | '\t' | ',' | '>' => {}
            '=' => {
                return Err(
                    "found a tie, and a store keeps none: put equal answers in either order, or leave all but one of them out".into()
                );
            }
            c => match place(c, count) {
                Some(place) if order.contains(&place) => return expected(format!("{c} twice")),
                Some(place) => order.push(place),
                None => return expected(format!("{line:?}", line = line.trim())),
            },
        }
    }
    match order.as_slice() {
        [] => expected("nothing".into()),
        [one] => Err(format!("expected two letters or more, best first, found {} alone; /skip stores no order", letter(*one))),
        _ => Ok(Reply::Order(order)),
    }
}

fn edit(answer: &str, count: usize) -> Result<Reply, String> {
    let mut letters = answer.chars();
    match (letters.next().and_then(|c| place(c, count)), letters.next()) {
        (Some(place), None) => Ok(Reply::Edit(place)),
        _ => Err(format!("expected /edit with one letter from a to {}, found {answer:?}", letter(count - 1))),
    }
}

fn place(c: char, count: usize) -> Option<usize> {
    (0..count).find(|&place| letter(place) == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_however_its_letters_stand_apart() {
        for line in ["b a d c", "b>a>d>c", "b, a, d, c", "badc", " B A D C "] {
            assert_eq!(parse(line, 4), Ok(Reply::Order(vec![1, 0, 3, 2])), "{line}");
        }
        assert_eq!(parse("c a", 4), Ok(Reply::Order(vec![2, 0])), "answers may be left out");
    }

    #[test]
    fn what_is_no_order_says_what_was_expected_and_found() {
        let said = |line: &str| parse(line, 3).err().unwrap_or_default();
        for (line, parts) in [
            ("x y", ["from a to c", "\"x y\""]),
            ("a d", ["b a c", "\"a d\""]),
            ("a b a", ["best first", "a twice"]),
            ("", ["best first", "nothing"]),
            ("b", ["two letters", "b alone"]),
            ("a=b>c", ["tie", "leave all but one"]),
            ("/sip", ["/skip", "/sip"]),
            ("/edit", ["one letter", "\"\""]),
            ("edit d", ["a to c", "\"d\""]),
        ] {
            assert!(parts.iter().all(|part| said(line).contains(part)), "{line}: {}", said(line));
        }
    }

    #[test]
    fn commands_are_told_from_orders_at_every_number_of_answers() {
        for count in 2..=MOST {
            assert_eq!(parse("skip", count), Ok(Reply::Skip));
            assert_eq!(parse("/quit", count), Ok(Reply::Quit));
            assert_eq!(parse("?", count), Ok(Reply::Help));
            assert_eq!(parse("/edit b", count), Ok(Reply::Edit(1)));
            assert_eq!(parse(&example(count), count).map(|reply| matches!(reply, Reply::Order(o) if o.len() == count)), Ok(true));
        }
    }
}
