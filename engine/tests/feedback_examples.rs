//! What is built from feedback: each thing said once, what contradicts itself reported, and files that the data reader takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::data::{Dataset, Format, Message, Objective, Passage, Record};
use attune::feedback::{
    Context, ContradictionKind, Durability, Entry, Event, ExampleOptions, Examples, Feedback, Pairs, Reader, Signal, Store, StoreOptions,
    Thumb, Verdict, Winner,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A store in a folder of its own, with a clock that ticks at every event.
struct Home {
    folder: tempfile::TempDir,
    store: Store,
    time: u64,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("feedback.attune")).unwrap();
        Home { folder, store, time: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&mut self, event: Event) -> u64 {
        self.time += 1;
        self.store.append(event, &Context { time: Some(self.time), ..Context::default() }).unwrap()
    }

    fn prompt(&mut self, content: &str) -> u64 {
        self.add(Event::Prompt { content: Passage::Messages(vec![Message::user(content)]), tools: Vec::new() })
    }

    fn answer(&mut self, prompt: u64, content: &str) -> u64 {
        self.add(Event::Answer { prompt, content: Passage::Text(content.into()) })
    }

    /// A prompt and answers to it.
    fn asked<const N: usize>(&mut self, content: &str, answers: [&str; N]) -> [u64; N] {
        let prompt = self.prompt(content);
        answers.map(|text| self.answer(prompt, text))
    }

    fn thumb(&mut self, answer: u64, thumb: Thumb) -> u64 {
        self.add(Event::Thumb { answer, thumb })
    }

    fn edit(&mut self, answer: u64, content: &str) -> u64 {
        self.add(Event::Edit { answer, content: Passage::Text(content.into()) })
    }

    fn rank(&mut self, answers: &[u64]) -> u64 {
        self.add(Event::Rank { answers: answers.to_vec() })
    }

    fn regenerate(&mut self, answer: u64, content: &str) -> u64 {
        self.add(Event::Regenerate { answer, content: Passage::Text(content.into()) })
    }

    fn build(&self, objective: Objective, options: &ExampleOptions) -> Examples {
        Examples::build(self.store.path(), objective, options).unwrap()
    }

    /// Pairs as `prompt: better > worse`.
    fn pairs(&self, options: &ExampleOptions) -> Vec<String> {
        let show = |record: Record| {
            let Record::Preference { prompt, chosen, rejected, .. } = record else { panic!("{record:?}") };
            format!("{}: {} > {}", said(&prompt), said(&chosen), said(&rejected))
        };
        self.build(Objective::Preference, options).iter().map(|r| show(r.unwrap())).collect()
    }

    /// Ratings as `prompt: +answer`.
    fn ratings(&self, options: &ExampleOptions) -> Vec<String> {
        let show = |record: Record| {
            let Record::Rating { prompt, completion, label, .. } = record else { panic!("{record:?}") };
            format!("{}: {}{}", said(&prompt), if label { '+' } else { '-' }, said(&completion))
        };
        self.build(Objective::Rating, options).iter().map(|r| show(r.unwrap())).collect()
    }

    /// Rankings as `prompt: best > … > worst`.
    fn rankings(&self) -> Vec<String> {
        let show = |record: Record| {
            let Record::Ranking { prompt, completions, .. } = record else { panic!("{record:?}") };
            format!("{}: {}", said(&prompt), completions.iter().map(said).collect::<Vec<_>>().join(" > "))
        };
        self.build(Objective::Ranking, &ExampleOptions::default()).iter().map(|r| show(r.unwrap())).collect()
    }
}

fn said(passage: &Passage) -> String {
    match passage {
        Passage::Text(text) => text.clone(),
        Passage::Messages(turns) => turns.iter().map(|t| t.content.as_str()).collect::<Vec<_>>().join("/"),
        Passage::Ids(ids) => format!("{ids:?}"),
    }
}

fn plain() -> ExampleOptions {
    ExampleOptions::default()
}

#[test]
fn an_edit_is_better_than_what_was_edited() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    let b = home.edit(a, "b");
    home.edit(b, "c");
    assert_eq!(home.pairs(&plain()), ["p: b > a", "p: c > b"]);
    assert_eq!(home.ratings(&plain()), ["p: -a", "p: -b", "p: +c"]);
    assert_eq!(home.ratings(&ExampleOptions { edited_is_disliked: false, ..plain() }), ["p: +b", "p: +c"]);
    assert_eq!(home.ratings(&ExampleOptions { edit_is_liked: false, ..plain() }), ["p: -a", "p: -b"]);
    let examples = home.build(Objective::Preference, &plain());
    let origin = examples.origin(0).unwrap();
    assert_eq!((origin.signal, origin.time, origin.entry, origin.prompt, origin.answers), (Signal::Edit, 3, b, 1, vec![b, a]));
    assert!(examples.record(2).is_err() && examples.origin(2).is_err());
}

#[test]
fn a_ranking_gives_a_list_or_all_its_pairs_or_adjacent_ones() {
    let mut home = Home::new();
    let [a, b, c] = home.asked("p", ["a", "b", "c"]);
    home.rank(&[c, a, b]);
    assert_eq!(home.pairs(&plain()), ["p: c > a", "p: c > b", "p: a > b"]);
    assert_eq!(home.pairs(&ExampleOptions { pairs: Pairs::Adjacent, ..plain() }), ["p: c > a", "p: a > b"]);
    assert_eq!(home.rankings(), ["p: c > a > b"]);
    assert!(home.ratings(&plain()).is_empty());
    let [d] = home.asked("q", ["d"]);
    home.edit(d, "e");
    assert_eq!(home.rankings(), ["p: c > a > b", "q: e > d"]);
}

#[test]
fn a_liked_answer_is_better_than_a_disliked_one_to_the_same_prompt() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    home.thumb(a, Thumb::Up);
    let [b] = home.asked("q", ["b"]);
    home.thumb(b, Thumb::Down);
    assert!(home.pairs(&plain()).is_empty(), "different prompts");
    // The same prompt put again.
    let [c, d] = home.asked("p", ["c", "d"]);
    home.thumb(c, Thumb::Down);
    home.thumb(d, Thumb::Up);
    assert_eq!(home.pairs(&plain()), ["p: a > c", "p: d > c"]);
    assert_eq!(home.ratings(&plain()), ["p: +a", "q: -b", "p: -c", "p: +d"]);
    assert!(home.pairs(&ExampleOptions { pairs_from_thumbs: false, ..plain() }).is_empty());
    let supervised: Vec<Record> = home.build(Objective::Supervised, &plain()).iter().map(Result::unwrap).collect();
    let Record::Conversation { messages, .. } = &supervised[1] else { panic!("{supervised:?}") };
    assert_eq!((supervised.len(), messages[1].content.as_str(), messages[1].loss_weight()), (2, "d", 1.0));
}

#[test]
fn a_thumb_that_was_taken_back_counts_no_more() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    home.thumb(a, Thumb::Up);
    home.thumb(a, Thumb::Withdrawn);
    assert!(home.ratings(&plain()).is_empty());
    home.thumb(a, Thumb::Down);
    assert_eq!(home.ratings(&plain()), ["p: -a"]);
    assert_eq!(home.build(Objective::Rating, &plain()).report().contradiction_count, 0);
}

#[test]
fn a_regenerated_answer_is_better_only_once_it_is_kept_or_liked() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    let b = home.regenerate(a, "b");
    assert!(home.pairs(&plain()).is_empty());
    assert_eq!(home.build(Objective::Preference, &plain()).report().undecided, 1);
    home.add(Event::Keep { answer: b });
    assert_eq!(home.pairs(&plain()), ["p: b > a"]);
    assert!(home.pairs(&ExampleOptions { regenerations: false, ..plain() }).is_empty());
    home.thumb(b, Thumb::Down);
    assert!(home.pairs(&plain()).is_empty(), "kept, but disliked");
    let [c] = home.asked("q", ["c"]);
    let d = home.regenerate(c, "d");
    home.thumb(d, Thumb::Up);
    assert_eq!(home.pairs(&plain()), ["q: d > c"]);
    home.thumb(c, Thumb::Up);
    assert!(home.pairs(&plain()).is_empty(), "the old answer is liked as well");
    assert_eq!(home.build(Objective::Preference, &plain()).report().undecided, 2);
}

#[test]
fn a_weak_signal_yields_to_a_strong_one_whatever_came_first() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    let c = home.edit(a, "c");
    let b = home.regenerate(a, "b");
    home.rank(&[a, b]);
    home.add(Event::Keep { answer: b });
    assert_eq!(home.pairs(&plain()), ["p: c > a", "p: a > b"]);
    let report = home.build(Objective::Preference, &plain()).report().clone();
    assert_eq!((report.undecided, report.contradiction_count, c), (1, 0, 3));
}

#[test]
fn what_was_said_twice_counts_once() {
    let mut home = Home::new();
    for _ in 0..3 {
        let [a, b] = home.asked("p", ["a", "b"]);
        home.thumb(a, Thumb::Up);
        home.thumb(a, Thumb::Up);
        home.rank(&[a, b]);
        home.edit(b, "a");
    }
    assert_eq!(home.pairs(&plain()), ["p: a > b"]);
    assert_eq!(home.ratings(&plain()), ["p: +a", "p: -b"]);
    let report = home.build(Objective::Preference, &plain()).report().clone();
    assert_eq!((report.duplicates, report.contradiction_count, report.examples), (5 + 5, 0, 1));
    assert_eq!((report.counts.entries, report.counts.thumbs, report.counts.edits), (21, 6, 3));
}

#[test]
fn the_latest_of_a_like_and_a_dislike_wins_and_both_are_reported() {
    let mut home = Home::new();
    let [a, b] = home.asked("p", ["a", "b"]);
    let (up, down) = (home.thumb(a, Thumb::Up), home.thumb(a, Thumb::Down));
    home.thumb(b, Thumb::Up);
    let with = |winner| ExampleOptions { winner, ..plain() };
    assert_eq!(home.ratings(&with(Winner::Latest)), ["p: -a", "p: +b"]);
    assert_eq!(home.ratings(&with(Winner::Earliest)), ["p: +a", "p: +b"]);
    assert_eq!(home.ratings(&with(Winner::Neither)), ["p: +b"]);
    assert_eq!(home.pairs(&with(Winner::Latest)), ["p: b > a"]);
    assert!(home.pairs(&with(Winner::Earliest)).is_empty() && home.pairs(&with(Winner::Neither)).is_empty());
    for (winner, left_out) in [(Winner::Latest, vec![up]), (Winner::Earliest, vec![down]), (Winner::Neither, vec![up, down])] {
        let report = home.build(Objective::Rating, &with(winner)).report().clone();
        let found = &report.contradictions[0];
        assert_eq!((report.contradiction_count, found.kind, found.prompt), (1, ContradictionKind::LikedAndDisliked, 1));
        assert_eq!((&found.entries, &found.left_out), (&vec![up, down], &left_out));
    }
}

#[test]
fn pairs_both_ways_and_cycles_are_reported_and_the_latest_wins() {
    let mut home = Home::new();
    let [a, b] = home.asked("p", ["a", "b"]);
    let (first, second) = (home.rank(&[a, b]), home.rank(&[b, a]));
    let [d, e, f, g] = home.asked("q", ["d", "e", "f", "g"]);
    let (de, ef) = (home.rank(&[d, e]), home.rank(&[e, f]));
    let fd = home.rank(&[f, d]);
    home.rank(&[g, d]);
    let with = |winner| ExampleOptions { winner, ..plain() };
    assert_eq!(home.pairs(&with(Winner::Latest)), ["p: b > a", "q: e > f", "q: f > d", "q: g > d"]);
    assert_eq!(home.pairs(&with(Winner::Earliest)), ["p: a > b", "q: d > e", "q: e > f", "q: g > d"]);
    assert_eq!(home.pairs(&with(Winner::Neither)), ["q: g > d"]);
    let found = |winner| {
        let report = home.build(Objective::Preference, &with(winner)).report().clone();
        assert_eq!(report.contradiction_count, report.contradictions.len());
        let short = |c: &attune::feedback::Contradiction| (c.kind, c.entries.clone(), c.left_out.clone());
        report.contradictions.iter().map(short).collect::<Vec<_>>()
    };
    let (reversed, cycle) = (ContradictionKind::Reversed, ContradictionKind::Cycle);
    assert_eq!(found(Winner::Latest), [(reversed, vec![first, second], vec![first]), (cycle, vec![de, ef, fd], vec![de])]);
    assert_eq!(found(Winner::Earliest), [(reversed, vec![first, second], vec![second]), (cycle, vec![de, ef, fd], vec![fd])]);
    let both = vec![first, second];
    assert_eq!(found(Winner::Neither), [(reversed, both.clone(), both), (cycle, vec![de, ef, fd], vec![de, ef, fd])]);
}

#[test]
fn a_ranking_that_a_later_pair_contradicts_is_left_out_whole() {
    let mut home = Home::new();
    let [a, b, c] = home.asked("p", ["a", "b", "c"]);
    let ranking = home.rank(&[a, b, c]);
    let like = home.thumb(c, Thumb::Up);
    let dislike = home.thumb(a, Thumb::Down);
    assert_eq!(home.pairs(&plain()), ["p: c > a"]);
    let report = home.build(Objective::Ranking, &plain()).report().clone();
    assert_eq!(report.contradictions[0].kind, ContradictionKind::Reversed);
    assert_eq!(report.contradictions[0].entries, [ranking, like, dislike]);
    assert_eq!(report.contradictions[0].left_out, [ranking]);
    let earliest = ExampleOptions { winner: Winner::Earliest, ..plain() };
    assert_eq!(home.pairs(&earliest), ["p: a > b", "p: a > c", "p: b > c"]);
}

#[test]
fn the_same_text_on_both_sides_makes_no_pair() {
    let mut home = Home::new();
    let [a, b, again] = home.asked("p", ["a", "b", "a"]);
    home.edit(a, "a");
    home.rank(&[a, again]);
    home.regenerate(b, "b");
    assert!(home.pairs(&plain()).is_empty() && home.ratings(&plain()).is_empty());
    let ranking = home.rank(&[a, b, again]);
    let report = home.build(Objective::Preference, &plain()).report().clone();
    assert_eq!((report.unchanged, report.examples, report.contradiction_count), (3, 0, 1));
    assert_eq!((report.contradictions[0].kind, &report.contradictions[0].entries), (ContradictionKind::Itself, &vec![ranking]));
    home.rank(&[a, again, b]);
    assert_eq!(home.rankings(), ["p: a > b"]);
}

#[test]
fn pairs_of_one_prompt_are_limited_and_the_latest_are_taken() {
    let mut home = Home::new();
    let prompt = home.prompt("p");
    for i in 0..10 {
        let (up, down) = (home.answer(prompt, &format!("up {i}")), home.answer(prompt, &format!("down {i}")));
        home.thumb(up, Thumb::Up);
        home.thumb(down, Thumb::Down);
    }
    assert_eq!(home.pairs(&plain()).len(), 100);
    let few = ExampleOptions { max_pairs: 3, ..plain() };
    assert_eq!(home.pairs(&few), ["p: up 9 > down 8", "p: up 8 > down 9", "p: up 9 > down 9"]);
    assert_eq!(home.build(Objective::Preference, &few).report().over_limit, 97);
}

#[test]
fn many_thumbs_on_one_prompt_are_paired_in_good_time() {
    let mut home = Home::new();
    let options = StoreOptions { durability: Durability::OnFlush, ..StoreOptions::default() };
    drop(home.store);
    home.store = Store::open_with(home.folder.path().join("feedback.attune"), options).unwrap();
    let prompt = home.prompt("p");
    for i in 0..20_000 {
        let answer = home.answer(prompt, &i.to_string());
        home.thumb(answer, if i == 10_000 { Thumb::Down } else { Thumb::Up });
    }
    let began = std::time::Instant::now();
    assert_eq!(home.build(Objective::Preference, &ExampleOptions { max_pairs: 30_000, ..plain() }).len(), 19_999);
    assert_eq!(home.build(Objective::Preference, &plain()).len(), 256);
    assert_eq!(home.build(Objective::Rating, &plain()).len(), 20_000);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn the_later_event_counts_whatever_order_events_were_stored_in() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    for (thumb, time) in [(Thumb::Up, 2000), (Thumb::Down, 1000)] {
        home.store.append(Event::Thumb { answer: a, thumb }, &Context { time: Some(time), ..Context::default() }).unwrap();
    }
    assert_eq!(home.ratings(&plain()), ["p: +a"]);
}

#[test]
fn an_empty_store_and_lone_verdicts_give_what_they_can() {
    let mut home = Home::new();
    for objective in [Objective::Preference, Objective::Rating, Objective::Ranking, Objective::Supervised] {
        assert!(home.build(objective, &plain()).is_empty());
    }
    let [a, b] = home.asked("p", ["a", "b"]);
    home.thumb(a, Thumb::Up);
    home.thumb(b, Thumb::Up);
    assert_eq!((home.ratings(&plain()).len(), home.pairs(&plain()).len()), (2, 0));
}

#[test]
fn a_damaged_prompt_takes_its_verdicts_along_and_no_others() {
    let mut home = Home::new();
    let [a] = home.asked("damaged", ["a"]);
    home.edit(a, "b");
    let [c] = home.asked("whole", ["c"]);
    home.edit(c, "d");
    let mut bytes = std::fs::read(home.store.path()).unwrap();
    let at = bytes.windows(7).position(|part| part == b"damaged").unwrap();
    bytes[at] = b'x';
    std::fs::write(home.store.path(), bytes).unwrap();
    assert_eq!(home.pairs(&plain()), ["whole: d > c"]);
    let report = home.build(Objective::Preference, &plain()).report().clone();
    assert_eq!((report.counts.orphans, report.damage.count), (2, 1));
}

/// Text, turns with tools and a call, and ids; everything that a record may hold.
fn varied(home: &mut Home) {
    let tool = json!({"type": "function", "function": {"name": "clock", "parameters": {}}});
    let content =
        Passage::Messages(vec![Message::system("Be exact."), Message::user("When?"), Message::assistant("Now."), Message::user("Now?")]);
    let prompt = home.add(Event::Prompt { content, tools: vec![tool] });
    let mut call = Message::assistant("");
    call.extra.insert("tool_calls".into(), json!([{"type": "function", "function": {"name": "clock", "arguments": {}}}]));
    let told = Message::new("tool", "noon");
    let turns = vec![call, told, Message::assistant("At noon.")];
    let a = home.add(Event::Answer { prompt, content: Passage::Messages(turns) });
    let b = home.answer(prompt, "I cannot tell.");
    let c = home.answer(prompt, "");
    home.rank(&[a, b, c]);
    home.thumb(b, Thumb::Up);
    home.thumb(c, Thumb::Down);
    let text = home.add(Event::Prompt { content: Passage::Text("Once upon".into()), tools: Vec::new() });
    let d = home.answer(text, " a line\nbreak");
    home.edit(d, " a time");
    home.thumb(d, Thumb::Down);
}

#[test]
fn exported_files_are_read_as_data_sets_with_the_same_records() {
    let mut home = Home::new();
    varied(&mut home);
    for (objective, format, count) in [
        (Objective::Preference, Format::Preference, 4),
        (Objective::Rating, Format::Rating, 4),
        (Objective::Ranking, Format::Ranking, 3),
        (Objective::Supervised, Format::PromptCompletion, 2),
    ] {
        let examples = home.build(objective, &plain());
        let path = home.path("out.jsonl");
        let exported = examples.export(&path).unwrap();
        assert_eq!((exported.records, exported.left_out, examples.len()), (count, 0, count), "{objective:?}");
        let data = Dataset::open(&path).unwrap();
        assert_eq!(data.format(), format);
        let read: Vec<Record> = data.iter().map(Result::unwrap).collect();
        let built: Vec<Record> = examples.iter().map(Result::unwrap).collect();
        if objective == Objective::Supervised {
            // Turns of a prompt that are no assistant's have no weight to lose.
            assert_eq!(read.len(), built.len());
            let learnt = |r: &Record| match r {
                Record::Conversation { messages, .. } => messages.iter().map(|m| (m.content.clone(), m.loss_weight())).collect(),
                Record::PromptCompletion { prompt, completion } => vec![(prompt.clone(), 0.0), (completion.clone(), 1.0)],
                other => panic!("{other:?}"),
            };
            assert_eq!(read.iter().map(learnt).collect::<Vec<_>>(), built.iter().map(learnt).collect::<Vec<_>>());
        } else {
            assert_eq!(read, built, "{objective:?}");
        }
    }
}

#[test]
fn exported_ids_are_data_sets_of_ids() {
    let mut home = Home::new();
    let prompt = home.add(Event::Prompt { content: Passage::Ids(vec![1, 2]), tools: Vec::new() });
    let a = home.add(Event::Answer { prompt, content: Passage::Ids(vec![3]) });
    home.add(Event::Edit { answer: a, content: Passage::Ids(vec![4, 5]) });
    for (objective, format) in [
        (Objective::Preference, Format::PreferenceIds),
        (Objective::Rating, Format::RatingIds),
        (Objective::Ranking, Format::RankingIds),
        (Objective::Supervised, Format::Ids),
    ] {
        let examples = home.build(objective, &plain());
        examples.export(home.path("ids.jsonl")).unwrap();
        let data = Dataset::open(home.path("ids.jsonl")).unwrap();
        assert_eq!(data.format(), format);
        let read: Vec<Record> = data.iter().map(Result::unwrap).collect();
        assert_eq!(read, examples.iter().map(Result::unwrap).collect::<Vec<_>>());
    }
    varied(&mut home);
    let exported = home.build(Objective::Preference, &plain()).export(home.path("mixed.jsonl")).unwrap();
    assert_eq!((exported.records, exported.left_out), (4, 1));
}

#[test]
fn a_raw_export_makes_the_same_store_again() {
    let mut home = Home::new();
    varied(&mut home);
    let raw = home.path("raw.jsonl");
    let exported = Reader::open(home.store.path()).unwrap().export_raw(&raw).unwrap();
    assert_eq!(exported.records, home.store.len());
    let mut copy = Store::open(home.path("copy.attune")).unwrap();
    let imported = copy.import(std::fs::File::open(&raw).unwrap()).unwrap();
    assert_eq!((imported.added, imported.known, imported.bad_count), (home.store.len(), 0, 0));
    assert_eq!(std::fs::read(copy.path()).unwrap()[24..], std::fs::read(home.store.path()).unwrap()[24..]);
    let imported = copy.import(std::fs::File::open(&raw).unwrap()).unwrap();
    assert_eq!((imported.added, imported.known), (0, home.store.len()));
}

#[test]
fn entries_that_are_imported_into_a_full_store_get_new_ids_and_keep_their_verdicts() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    home.edit(a, "b");
    let raw = home.path("raw.jsonl");
    Reader::open(home.store.path()).unwrap().export_raw(&raw).unwrap();
    let mut other = Home::new();
    let [x] = other.asked("q", ["x"]);
    other.edit(x, "y");
    other.edit(x, "z");
    let imported = other.store.import(std::fs::File::open(&raw).unwrap()).unwrap();
    assert_eq!((imported.added, other.store.len(), other.store.next_id()), (3, 7, 8));
    let mut pairs = other.pairs(&plain());
    pairs.sort();
    assert_eq!(pairs, ["p: b > a", "q: y > x", "q: z > x"]);
}

#[test]
fn bad_lines_of_an_import_are_reported_and_the_others_taken() {
    let mut home = Home::new();
    let lines = [
        r#"{"id":1,"time":1,"event":"prompt","content":"p"}"#,
        "",
        r#"{"id":2,"time":1,"event":"answer","of":1"#,
        r#"{"id":3,"time":1,"event":"answer","of":1,"content":"a"}"#,
        r#"{"id":4,"time":1,"event":"thumb","of":2,"thumb":"up"}"#,
        r#"{"id":5,"time":1,"event":"thumb","of":1,"thumb":"up"}"#,
        r#"{"id":6,"time":1,"event":"thumb","of":3,"thumb":"sideways"}"#,
        r#"{"id":7,"time":1,"event":"thumb","of":3,"thumb":"up","colour":1}"#,
        r#"{"id":8,"time":-1,"event":"thumb","of":3,"thumb":"up"}"#,
        r#"{"id":9,"time":1,"event":"rank","of":[3,3]}"#,
        r#"{"id":0,"time":1,"event":"keep","of":3}"#,
        r#"{"id":18446744073709551615,"time":9007199254740991,"event":"thumb","of":3,"thumb":"up"}"#,
    ];
    let imported = home.store.import(lines.join("\n").as_bytes()).unwrap();
    let bad: Vec<u64> = imported.bad.iter().map(|b| b.line).collect();
    assert_eq!((imported.added, bad), (3, vec![3, 5, 6, 7, 8, 9, 10, 11]));
    assert_eq!(home.ratings(&plain()), ["p: +a"]);
    let long = format!("{{\"id\":1,\"time\":1,\"event\":\"prompt\",\"content\":\"{}\"}}\n{}", "x".repeat(5 << 20), lines[0]);
    let imported = home.store.import(long.as_bytes()).unwrap();
    assert_eq!((imported.added, imported.known, imported.bad[0].line), (0, 1, 1));
    assert_eq!(home.store.import(&b"\xff\xfe\n\0\n"[..]).unwrap().bad_count, 2);
}

#[test]
fn a_prompt_its_answers_and_a_verdict_are_told_at_once() {
    let mut home = Home::new();
    let tell = |home: &mut Home, prompt: &str, answers: &[&str], verdict| {
        let prompt = Passage::Messages(vec![Message::user(prompt)]);
        let answers = answers.iter().map(|a| Passage::Text((*a).into())).collect();
        home.store.tell(Feedback { prompt, tools: Vec::new(), answers, verdict }, &Context::default())
    };
    let told = tell(&mut home, "p", &["a"], Verdict::Thumb(Thumb::Up)).unwrap();
    assert_eq!((told.prompt, told.answers, told.verdict), (1, vec![2], Some(3)));
    tell(&mut home, "q", &["b"], Verdict::Edit(Passage::Text("c".into()))).unwrap();
    tell(&mut home, "r", &["e", "d"], Verdict::Ranked).unwrap();
    tell(&mut home, "s", &["f"], Verdict::Regenerated { answer: Passage::Text("g".into()), kept: true }).unwrap();
    tell(&mut home, "t", &["h"], Verdict::Regenerated { answer: Passage::Text("i".into()), kept: false }).unwrap();
    assert_eq!(tell(&mut home, "u", &[], Verdict::None).unwrap().verdict, None);
    let mut pairs = home.pairs(&plain());
    pairs.sort();
    assert_eq!(pairs, ["q: c > b", "r: e > d", "s: g > f"]);
    let before = home.store.len();
    assert!(tell(&mut home, "v", &["j", "k"], Verdict::Thumb(Thumb::Up)).is_err());
    assert!(tell(&mut home, "v", &["j"], Verdict::Ranked).is_err());
    assert!(tell(&mut home, "v", &[], Verdict::Edit(Passage::Text("k".into()))).is_err());
    assert_eq!(home.store.len(), before);
    let recent = Reader::open(home.store.path()).unwrap().map(Result::unwrap).all(|e: Entry| e.time > 1_700_000_000_000);
    assert!(recent, "the system's clock in milliseconds");
}

#[test]
fn reports_are_json_with_names() {
    let mut home = Home::new();
    let [a] = home.asked("p", ["a"]);
    home.thumb(a, Thumb::Up);
    home.thumb(a, Thumb::Down);
    let value: Value = serde_json::to_value(home.build(Objective::Rating, &plain()).report()).unwrap();
    assert_eq!((value["examples"].as_u64(), value["counts"]["thumbs"].as_u64()), (Some(1), Some(2)));
    assert_eq!(value["contradictions"][0]["kind"], "liked_and_disliked");
    assert_eq!(value["contradictions"][0]["left_out"], json!([3]));
}
