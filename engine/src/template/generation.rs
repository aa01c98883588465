//! `{% generation %} … {% endgeneration %}`: how a template says itself what the assistant's text is.
//!
//! The engine does not know these tags. They are rewritten to a filter block, which puts marks around the body
//! when a render asks for them, and changes nothing else: the tags keep their white space rules.

use minijinja::{State, Value};

/// The filter's name in the rewritten source.
pub(super) const FILTER: &str = "__attune_generation";
/// The context's name for the two marks, one after the other.
pub(super) const MARKS: &str = "__attune_marks";

/// The source with the tags rewritten, or `None` if it has none.
pub(super) fn rewrite(source: &str) -> Option<String> {
    let mut out = String::with_capacity(source.len() + 64);
    let (mut rest, mut found) = (source, false);
    while let Some(at) = rest.find("{%").into_iter().chain(rest.find("{#")).min() {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let close = if tag.starts_with("{#") { "#}" } else { "%}" };
        let end = tag.find(close).map_or(tag.len(), |at| at + 2);
        let (tag, after) = tag.split_at(end);
        rest = after;
        if close == "#}" {
            out.push_str(tag);
            continue;
        }
        let name = tag.trim_start_matches("{%").trim_end_matches("%}");
        let name = name.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match name {
            "generation" => out.push_str(&tag.replacen(name, &format!("filter {FILTER}"), 1)),
            "endgeneration" => out.push_str(&tag.replacen(name, "endfilter", 1)),
            _ => out.push_str(tag),
        }
        found |= name == "generation";
        if name == "raw" {
            // Nothing in here is a tag.
            let end = rest.find("endraw").unwrap_or(rest.len());
            let open = rest[..end].rfind("{%").unwrap_or(end);
            let (raw, after) = rest.split_at(open);
            out.push_str(raw);
            rest = after;
        }
    }
    out.push_str(rest);
    found.then_some(out)
}

/// The filter: the body, between the marks if there are any.
pub(super) fn mark(state: &State, body: String) -> String {
    let marks: Option<Vec<char>> = state.lookup(MARKS).as_ref().and_then(Value::as_str).map(|marks| marks.chars().collect());
    match marks.as_deref() {
        Some(&[open, close]) => format!("{open}{body}{close}"),
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::rewrite;

    #[test]
    fn only_generation_tags_are_rewritten() {
        assert_eq!(rewrite("{% if generation %}{{ generation }}{% endif %}{# {% generation %} #}"), None);
        assert_eq!(rewrite("a{%- generation -%}b{% endgeneration %}c").unwrap(), "a{%- filter __attune_generation -%}b{% endfilter %}c");
        let raw = "{% raw %}{% generation %}{% endraw %}";
        assert_eq!(rewrite(raw), None);
        assert_eq!(
            rewrite(&format!("{raw}{{% generation %}}x{{% endgeneration %}}")).unwrap(),
            format!("{raw}{{% filter __attune_generation %}}x{{% endfilter %}}")
        );
    }
}
