//! Every relation of the inventory, kind by kind.

mod ask;
mod create;
mod perform;
mod reason;
mod refuse;

use crate::relation::{Fact, Relation, Values};

/// All relations, in a fixed order.
pub(crate) fn all() -> Vec<Relation> {
    let mut all = ask::relations();
    all.extend(perform::relations());
    all.extend(create::relations());
    all.extend(reason::relations());
    all.extend(refuse::relations());
    all
}

/// Facts from the rows of a table: `values` picks the columns, the first column names the row. A row that lacks a value is left out;
/// every fifth row, counted in the table so that it is the same in every relation, is held out.
fn rows<const N: usize>(table: &[[&str; N]], prefix: &str, values: &[usize]) -> Vec<Fact> {
    let fact = |(index, row): (usize, &[&str; N])| {
        let values: Vec<String> = values.iter().filter_map(|&column| row.get(column).map(|s| (*s).to_owned())).collect();
        let name = row.first().copied().unwrap_or_default().replace(' ', "_");
        Fact { key: format!("{prefix}:{name}"), held_out: held_out(index), values: Values::Fixed(values) }
    };
    table.iter().enumerate().map(fact).filter(|fact| !matches!(&fact.values, Values::Fixed(v) if v.iter().any(String::is_empty))).collect()
}

/// Every fifth.
fn held_out(index: usize) -> bool {
    index % 5 == 4
}
