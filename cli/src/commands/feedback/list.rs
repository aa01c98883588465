//! `attune feedback list`: what is stored.

use super::warn;
use crate::failure::Outcome;
use crate::output::{Output, Table, one_line};
use attune::data::Passage;
use attune::feedback::{Entry, Event, Reader};
use clap::Args;
use std::collections::VecDeque;
use std::path::PathBuf;

/// Show entries, the latest last. With --json a line an entry, as in a raw export.
#[derive(Args)]
pub(crate) struct List {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Entries that are shown, the last ones; 0: all [default: 20, with --json all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only entries that were stored with this conversation
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Only this kind of events: prompt, answer, thumb, edit, regenerate, keep or rank
    #[arg(long, value_name = "KIND", value_parser = ["prompt", "answer", "thumb", "edit", "regenerate", "keep", "rank"])]
    event: Option<String>,
}

impl List {
    pub(super) fn run(self, out: &Output) -> Outcome {
        let limit = match self.limit.unwrap_or(if out.json { 0 } else { 20 }) {
            0 => usize::MAX,
            limit => limit,
        };
        let mut reader = Reader::open(&self.store)?;
        let mut last: VecDeque<Entry> = VecDeque::new();
        let (mut passed, mut read) = (0u64, 0u64);
        while let Some(entry) = reader.next().transpose()? {
            read += 1;
            let wanted = self.conversation.is_none() || entry.conversation == self.conversation;
            if !wanted || self.event.as_deref().is_some_and(|kind| kind != entry.event.name()) {
                continue;
            }
            if out.json && limit == usize::MAX {
                out.line(entry.to_json())?;
                continue;
            }
            if last.len() == limit {
                last.pop_front();
                passed += 1;
            }
            last.push_back(entry);
        }
        warn(&self.store, reader.damage());
        if out.json {
            return last.iter().try_for_each(|entry| out.line(entry.to_json()));
        }
        if last.is_empty() {
            let nothing = if read == 0 {
                "the store has no entries: nothing has been added yet, or all was erased"
            } else {
                "no entry is of that kind"
            };
            out.note(nothing);
            return Ok(());
        }
        let mut table = Table::new(&[">id", "time (UTC)", "event", ">of", "what"]);
        let width = out.width().saturating_sub(52).max(20);
        for entry in &last {
            let of = entry.event.of().iter().map(u64::to_string).collect::<Vec<_>>().join(" > ");
            table.row([entry.id.to_string(), date(entry.time), entry.event.name().into(), of, one_line(&what(&entry.event), width)]);
        }
        table.print(out)?;
        if passed > 0 {
            out.note(format!("{passed} before these; --limit 0 shows all"));
        }
        Ok(())
    }
}

/// What an event says, for a table.
fn what(event: &Event) -> String {
    match (event, event.content()) {
        (Event::Thumb { thumb, .. }, _) => format!("{thumb:?}").to_lowercase(),
        (_, Some(Passage::Text(text))) => text.clone(),
        (_, Some(Passage::Messages(turns))) => turns.last().map(|turn| turn.content.clone()).unwrap_or_default(),
        (_, Some(Passage::Ids(ids))) => format!("{ids:?}"),
        (_, None) => String::new(),
    }
}

/// `2026-11-22 19:55:07` of milliseconds since 1970, in UTC.
fn date(ms: u64) -> String {
    let (seconds, days) = (ms / 1000 % 86_400, ms / 86_400_000);
    // Years that begin in March, so that leap days are their last: 146097 days are 400 of them.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_399_999), "2000-02-28 23:59:59");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(date(1_709_251_199_000), "2024-02-29 23:59:59");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00");
        assert!(date(u64::MAX).len() > 19);
    }
}
