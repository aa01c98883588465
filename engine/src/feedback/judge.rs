//! What verdicts on one prompt amount to: which answers are liked, which are better than which, and where people contradicted themselves.

use super::Thumb;
use super::examples::{ExampleOptions, Pairs, Winner};
use super::gather::{Gathered, Verdict, What};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Edits and rankings of one prompt that are weighed against each other, and regenerates of one; more are left out.
const MAX_JUDGEMENTS: usize = 256;

/// What an example was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A person edited the answer.
    Edit,
    /// A person put answers in order.
    Ranking,
    /// A person liked the one and disliked the other; or the thumb itself.
    Thumbs,
    /// A person asked for another answer and went on with it.
    Regenerate,
}

/// Verdicts that cannot all hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// In which way.
    pub kind: ContradictionKind,
    /// The first entry of the prompt.
    pub prompt: u64,
    /// The entries that contradict each other.
    pub entries: Vec<u64>,
    /// Those of them that do not count.
    pub left_out: Vec<u64>,
}

/// In which way verdicts contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContradictionKind {
    /// The same answer was liked and disliked.
    LikedAndDisliked,
    /// Of two answers each was better once.
    Reversed,
    /// The first is better than the second, the second than the third, and so on back to the first.
    Cycle,
    /// A ranking has the same text in two places.
    Itself,
}

/// An answer that is liked or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rating {
    pub(super) answer: u32,
    pub(super) liked: bool,
    pub(super) time: u64,
    pub(super) id: u64,
    pub(super) signal: Signal,
}

/// Answers in order, best first.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    pub(super) order: Vec<u32>,
    pub(super) time: u64,
    /// The verdicts that say so, the latest last.
    pub(super) entries: Vec<u64>,
    pub(super) signal: Signal,
}

/// What holds of one prompt.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) ratings: Vec<Rating>,
    pub(super) judgements: Vec<Judgement>,
    pub(super) contradictions: Vec<Contradiction>,
    pub(super) duplicates: usize,
    pub(super) unchanged: usize,
    pub(super) undecided: usize,
    pub(super) over_limit: usize,
}

/// Weighs the verdicts on one prompt, which come in the order of their times.
pub(super) fn judge(all: &Gathered, prompt: u64, verdicts: &[Verdict], options: &ExampleOptions) -> Judged {
    let mut out = Judged::default();
    let thumbs = thumbs(prompt, verdicts, options.winner, &mut out);
    let mut strong = said(all, prompt, verdicts, &mut out);
    if options.pairs_from_thumbs {
        strong.extend(from_thumbs(&thumbs, options.max_pairs, &mut out));
    }
    strong.sort_by_key(|j| (j.time, j.entries.last().copied()));
    if options.winner != Winner::Earliest {
        strong.reverse();
    }
    let mut graph = Graph::default();
    weigh(prompt, strong, options.winner, &mut graph, &mut out);
    if options.regenerations {
        for weak in regenerated(verdicts, &thumbs, &mut out) {
            // A weak signal yields to every other.
            if !graph.adds(&weak, &mut out) {
                out.undecided += 1;
            }
        }
    }
    out.judgements.append(&mut graph.judgements);
    derive(verdicts, options, &thumbs, &mut out);
    out
}

/// The standing thumbs by answer; `None` for an answer whose thumbs cancel out.
type Thumbs = HashMap<u32, Option<Rating>>;

fn thumbs(prompt: u64, verdicts: &[Verdict], winner: Winner, out: &mut Judged) -> Thumbs {
    let mut given: HashMap<u32, Vec<(Rating, u64)>> = HashMap::new();
    for verdict in verdicts {
        let What::Thumb { answer, entry, thumb } = verdict.what else { continue };
        let list = given.entry(answer).or_default();
        if thumb == Thumb::Withdrawn {
            list.retain(|(_, of)| *of != entry);
            continue;
        }
        let rating = Rating { answer, liked: thumb == Thumb::Up, time: verdict.time, id: verdict.id, signal: Signal::Thumbs };
        list.push((rating, entry));
    }
    let mut found: Vec<(u32, Vec<(Rating, u64)>)> = given.into_iter().filter(|(_, list)| !list.is_empty()).collect();
    found.sort_unstable_by_key(|(answer, _)| *answer);
    let mut standing = Thumbs::new();
    for (answer, list) in found {
        let one = if winner == Winner::Earliest { list.first() } else { list.last() };
        let Some((one, _)) = one.copied() else { continue };
        let alike = list.iter().filter(|(r, _)| r.liked == one.liked).count();
        if alike == list.len() {
            out.duplicates += alike - 1;
            standing.insert(answer, Some(one));
            continue;
        }
        let left_out = |r: &Rating| winner == Winner::Neither || r.liked != one.liked;
        let entries: Vec<u64> = list.iter().map(|(r, _)| r.id).collect();
        let left_out = list.iter().filter(|(r, _)| left_out(r)).map(|(r, _)| r.id).collect();
        out.contradictions.push(Contradiction { kind: ContradictionKind::LikedAndDisliked, prompt, entries, left_out });
        standing.insert(answer, (winner != Winner::Neither).then_some(one));
    }
    standing
}

/// What edits and rankings say outright.
fn said(all: &Gathered, prompt: u64, verdicts: &[Verdict], out: &mut Judged) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for verdict in verdicts {
        let (mut order, signal) = match verdict.what {
            What::Edit { old, new } => (vec![new, old], Signal::Edit),
            What::Rank { from, to } => (all.ranking(from, to).to_vec(), Signal::Ranking),
            _ => continue,
        };
        order.dedup();
        if order.len() < 2 {
            out.unchanged += 1;
            continue;
        }
        let distinct: HashSet<u32> = order.iter().copied().collect();
        if distinct.len() < order.len() {
            let entries = vec![verdict.id];
            out.contradictions.push(Contradiction { kind: ContradictionKind::Itself, prompt, left_out: entries.clone(), entries });
            continue;
        }
        judgements.push(Judgement { order, time: verdict.time, entries: vec![verdict.id], signal });
    }
    judgements
}

/// Each liked answer is better than each disliked one: the latest of both first, up to `most`.
fn from_thumbs(thumbs: &Thumbs, most: usize, out: &mut Judged) -> Vec<Judgement> {
    let pick = |liked: bool| {
        let mut list: Vec<Rating> = thumbs.values().flatten().filter(|r| r.liked == liked).copied().collect();
        list.sort_unstable_by_key(|r| core::cmp::Reverse((r.time, r.id)));
        list
    };
    let (up, down) = (pick(true), pick(false));
    out.over_limit += (up.len() * down.len()).saturating_sub(most);
    let mut judgements = Vec::new();
    for sum in 0..up.len() + down.len() {
        // Those whose places in both lists make this sum.
        let first = (sum + 1).saturating_sub(down.len());
        for (i, better) in up.iter().enumerate().take(sum + 1).skip(first) {
            let Some(worse) = down.get(sum - i) else { continue };
            if judgements.len() == most {
                return judgements;
            }
            let mut entries = vec![better.id, worse.id];
            entries.sort_unstable_by_key(|id| if *id == better.id { (better.time, *id) } else { (worse.time, *id) });
            let time = better.time.max(worse.time);
            judgements.push(Judgement { order: vec![better.answer, worse.answer], time, entries, signal: Signal::Thumbs });
        }
    }
    judgements
}

/// New answers that were kept or liked, each better than the one that it replaced, unless that was liked as well. The latest first.
fn regenerated(verdicts: &[Verdict], thumbs: &Thumbs, out: &mut Judged) -> Vec<Judgement> {
    let kept: HashSet<u64> = verdicts.iter().filter_map(|v| if let What::Keep { entry } = v.what { Some(entry) } else { None }).collect();
    let liked = |answer: u32| thumbs.get(&answer).copied().flatten().map(|r| r.liked);
    let mut judgements = Vec::new();
    for verdict in verdicts.iter().rev() {
        let What::Regenerate { old, new, entry } = verdict.what else { continue };
        let chosen = match liked(new) {
            Some(liked) => liked,
            None => kept.contains(&entry),
        };
        if old == new {
            out.unchanged += 1;
        } else if chosen && liked(old) != Some(true) {
            judgements.push(Judgement { order: vec![new, old], time: verdict.time, entries: vec![verdict.id], signal: Signal::Regenerate });
        } else {
            out.undecided += 1;
        }
    }
    judgements
}

/// Takes what does not contradict what was taken before it.
fn weigh(prompt: u64, strong: Vec<Judgement>, winner: Winner, graph: &mut Graph, out: &mut Judged) {
    let (mut distinct, mut outright) = (Vec::new(), 0);
    let mut seen: HashSet<Vec<u32>> = HashSet::new();
    for judgement in strong {
        // Pairs of thumbs are limited already, and must not crowd the others out.
        let counts = judgement.signal != Signal::Thumbs;
        if !seen.insert(judgement.order.clone()) {
            out.duplicates += 1;
        } else if counts && outright == MAX_JUDGEMENTS {
            out.over_limit += 1;
        } else {
            outright += usize::from(counts);
            distinct.push(judgement);
        }
    }
    if winner != Winner::Neither {
        for judgement in distinct {
            match graph.conflict(&judgement.order) {
                None => graph.add(judgement),
                Some(path) => {
                    let kind = kind(&path);
                    let mut entries: Vec<u64> = path.iter().flat_map(|at| graph.entries(*at)).collect();
                    let left_out = judgement.entries.clone();
                    entries.extend(&left_out);
                    out.contradictions.push(Contradiction { kind, prompt, entries: sorted(entries), left_out: sorted(left_out) });
                }
            }
        }
        return;
    }
    let mut everything = Graph::default();
    distinct.iter().for_each(|judgement| everything.add(judgement.clone()));
    let mut reported: HashSet<Vec<u64>> = HashSet::new();
    for (number, judgement) in distinct.into_iter().enumerate() {
        let Some(mut path) = everything.conflict(&judgement.order) else {
            graph.add(judgement);
            continue;
        };
        path.retain(|at| *at != number);
        let entries = path.iter().flat_map(|at| everything.entries(*at)).chain(judgement.entries.iter().copied()).collect();
        let entries = sorted(entries);
        if reported.insert(entries.clone()) {
            out.contradictions.push(Contradiction { kind: kind(&path), prompt, left_out: entries.clone(), entries });
        }
    }
}

fn kind(path: &[usize]) -> ContradictionKind {
    if path.len() > 1 { ContradictionKind::Cycle } else { ContradictionKind::Reversed }
}

fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Ratings: the thumbs, and where an answer has none, what edits make of it.
fn derive(verdicts: &[Verdict], options: &ExampleOptions, thumbs: &Thumbs, out: &mut Judged) {
    let mut derived: HashMap<u32, Rating> = HashMap::new();
    for verdict in verdicts {
        let What::Edit { old, new } = verdict.what else { continue };
        if old == new {
            continue;
        }
        let mut rate = |answer, liked| {
            derived.insert(answer, Rating { answer, liked, time: verdict.time, id: verdict.id, signal: Signal::Edit });
        };
        if options.edited_is_disliked {
            rate(old, false);
        }
        if options.edit_is_liked {
            rate(new, true);
        }
    }
    let unrated = derived.into_values().filter(|r| !thumbs.contains_key(&r.answer));
    out.ratings = thumbs.values().flatten().copied().chain(unrated).collect();
    out.ratings.sort_unstable_by_key(|r| (r.time, r.id, r.answer));
}

/// Judgements that do not contradict each other, as edges from better to worse.
#[derive(Default)]
struct Graph {
    judgements: Vec<Judgement>,
    seen: HashSet<Vec<u32>>,
    /// How many of them are weak.
    weak: usize,
    /// Worse answers, and the judgement that says so.
    worse: HashMap<u32, Vec<(u32, usize)>>,
}

impl Graph {
    fn add(&mut self, judgement: Judgement) {
        let number = self.judgements.len();
        for pair in judgement.order.windows(2) {
            if let [better, worse] = pair {
                self.worse.entry(*better).or_default().push((*worse, number));
            }
        }
        self.seen.insert(judgement.order.clone());
        self.judgements.push(judgement);
    }

    /// Adds it, counts it as a duplicate, or does neither since it contradicts.
    fn adds(&mut self, judgement: &Judgement, out: &mut Judged) -> bool {
        if self.seen.contains(&judgement.order) {
            out.duplicates += 1;
        } else if self.weak == MAX_JUDGEMENTS {
            out.over_limit += 1;
        } else if self.conflict(&judgement.order).is_some() {
            return false;
        } else {
            self.weak += 1;
            self.add(judgement.clone());
        }
        true
    }

    fn entries(&self, number: usize) -> impl Iterator<Item = u64> {
        self.judgements.get(number).into_iter().flat_map(|j| j.entries.iter().copied())
    }

    /// The judgements by which an answer of the order is better than one that stands before it.
    fn conflict(&self, order: &[u32]) -> Option<Vec<usize>> {
        let place: HashMap<u32, usize> = order.iter().enumerate().map(|(i, answer)| (*answer, i)).collect();
        order.iter().enumerate().skip(1).find_map(|(i, answer)| self.path(*answer, |other| place.get(&other).is_some_and(|j| *j < i)))
    }

    /// The judgements on the way from an answer down to one that is `wanted`.
    fn path(&self, from: u32, wanted: impl Fn(u32) -> bool) -> Option<Vec<usize>> {
        // From where each answer was reached, and by which judgement.
        let mut reached: HashMap<u32, (u32, usize)> = HashMap::new();
        let mut waiting = vec![from];
        while let Some(answer) = waiting.pop() {
            for &(worse, by) in self.worse.get(&answer).map(Vec::as_slice).unwrap_or_default() {
                if worse == from || reached.contains_key(&worse) {
                    continue;
                }
                reached.insert(worse, (answer, by));
                if wanted(worse) {
                    let mut path = Vec::new();
                    let mut at = worse;
                    while let Some(&(before, by)) = reached.get(&at) {
                        path.push(by);
                        at = before;
                    }
                    path.dedup();
                    return Some(path);
                }
                waiting.push(worse);
            }
        }
        None
    }
}

/// The pairs of an order, those of its best answers first.
pub(super) fn pairs(order: &[u32], pairs: Pairs) -> Vec<(u32, u32)> {
    match pairs {
        Pairs::Adjacent => order.iter().copied().zip(order.iter().copied().skip(1)).collect(),
        Pairs::All => order.iter().enumerate().flat_map(|(i, better)| order.iter().skip(i + 1).map(|worse| (*better, *worse))).collect(),
    }
}
