//! Every format, from the bytes of a file to the record that it means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::data::{Dataset, Format, Layout, Message, Passage, Record};
use serde_json::json;

fn open(text: &str) -> Dataset {
    Dataset::from_bytes(text.as_bytes().to_vec()).unwrap()
}

fn one(text: &str, format: Format) -> Record {
    let data = open(text);
    assert_eq!(data.format(), format, "{text}");
    assert_eq!(data.len(), 1);
    data.record(0).unwrap()
}

fn error(text: &str) -> String {
    open(text).record(0).unwrap_err().to_string()
}

fn conversation(messages: Vec<Message>) -> Record {
    Record::Conversation { messages, tools: vec![] }
}

fn turns(messages: impl Into<Vec<Message>>) -> Passage {
    Passage::Messages(messages.into())
}

fn plain(text: &str) -> Passage {
    Passage::Text(text.into())
}

#[test]
fn chat_messages_with_text() {
    let record = one(
        r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#,
        Format::Messages,
    );
    assert_eq!(record, conversation(vec![Message::system("Be brief."), Message::user("Hi"), Message::assistant("Hello")]));
}

#[test]
fn chat_messages_with_parts_and_weights() {
    let record = one(
        r#"{"messages": [
            {"role": "user", "content": [{"type": "text", "value": "Hi "}, {"type": "text", "text": "there"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "One"}], "weight": 0},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Two", "train": true},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Three", "loss_weight": 0.5}]}"#
            .replace('\n', " ")
            .as_str(),
        Format::Messages,
    );
    let Record::Conversation { messages, .. } = record else { panic!() };
    assert_eq!(messages[0].content, "Hi there");
    let weights: Vec<f32> = messages.iter().map(Message::loss_weight).collect();
    assert_eq!(weights, [0.0, 0.0, 0.0, 1.0, 0.0, 0.5]);
}

#[test]
fn openai_tool_calls_get_their_arguments_as_objects() {
    let record = one(
        r#"{"messages": [{"role": "user", "content": "Weather in Rome?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]}, {"role": "tool", "tool_call_id": "c1", "content": "sunny"}, {"role": "assistant", "content": "Sunny."}], "tools": [{"type": "function", "function": {"name": "weather"}}]}"#,
        Format::Messages,
    );
    let Record::Conversation { messages, tools } = record else { panic!() };
    assert_eq!(
        messages[1].extra["tool_calls"],
        json!([{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}])
    );
    assert_eq!(messages[2].extra["tool_call_id"], "c1");
    assert_eq!(tools[0]["function"]["name"], "weather");
    assert_eq!(messages[1].to_value()["role"], "assistant");
}

#[test]
fn alpaca_with_system_and_history() {
    let record = one(
        r#"{"instruction": "Add.", "input": "2 and 3", "output": "5", "system": "You count.", "history": [["1+1?", "2"], ["2+2?", "4"]]}"#,
        Format::Alpaca,
    );
    let expected = vec![
        Message::system("You count."),
        Message::user("1+1?"),
        Message::assistant("2"),
        Message::user("2+2?"),
        Message::assistant("4"),
        Message::user("Add.\n2 and 3"),
        Message::assistant("5"),
    ];
    assert_eq!(record, conversation(expected));
    let bare = one(r#"{"instruction": "Say hi", "input": null, "output": "hi"}"#, Format::Alpaca);
    assert_eq!(bare, conversation(vec![Message::user("Say hi"), Message::assistant("hi")]));
}

#[test]
fn sharegpt_with_function_calls() {
    let record = one(
        r#"{"conversations": [{"from": "human", "value": "Rome?"}, {"from": "function_call", "value": "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}"}, {"from": "observation", "value": "sunny"}, {"from": "gpt", "value": "Sunny."}], "system": "You know.", "tools": "[{\"name\": \"weather\", \"parameters\": {}}]"}"#,
        Format::ShareGpt,
    );
    let Record::Conversation { messages, tools } = record else { panic!() };
    let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
    assert_eq!(messages[2].extra["tool_calls"][0]["function"]["arguments"]["city"], "Rome");
    assert_eq!(tools, [json!({"type": "function", "function": {"name": "weather", "parameters": {}}})]);
}

#[test]
fn prompt_and_completion_as_text_and_as_messages() {
    let record = one(r#"{"prompt": "1 2 3", "completion": " 4"}"#, Format::PromptCompletion);
    assert_eq!(record, Record::PromptCompletion { prompt: "1 2 3".into(), completion: " 4".into() });
    let record = one(
        r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]}"#,
        Format::PromptCompletion,
    );
    let Record::Conversation { messages, .. } = record else { panic!() };
    let weights: Vec<f32> = messages.iter().map(Message::loss_weight).collect();
    assert_eq!(weights, [0.0, 0.0, 0.0, 1.0], "an answer inside the prompt is not learned");
}

#[test]
fn text_and_tokens() {
    assert_eq!(one(r#"{"text": "Once."}"#, Format::Text), Record::Text { text: "Once.".into() });
    let record = one(r#"{"input_ids": [1, 2, 3], "labels": [-100, -100, 3]}"#, Format::Ids);
    assert_eq!(record, Record::Tokens { input_ids: vec![1, 2, 3], labels: vec![-100, -100, 3] });
    let record = one(r#"{"input_ids": [1, 2, 3]}"#, Format::Ids);
    assert_eq!(record, Record::Tokens { input_ids: vec![1, 2, 3], labels: vec![1, 2, 3] });
}

#[test]
fn seeds_give_an_example_for_each_instance() {
    let data = open(concat!(
        r#"{"instruction": "Double it.", "instances": [{"input": "2", "output": "4"}, {"input": "3", "output": "6"}]}"#,
        "\n",
        r#"{"instruction": "Say hi.", "instances": [{"input": "", "output": "hi"}]}"#
    ));
    assert_eq!((data.format(), data.len()), (Format::Seeds, 3));
    assert_eq!(data.record(1).unwrap(), conversation(vec![Message::user("Double it.\n3"), Message::assistant("6")]));
    assert_eq!((data.line(0), data.line(1), data.line(2)), (1, 1, 2));
}

#[test]
fn preferences_with_an_explicit_prompt() {
    let record = one(r#"{"prompt": "Hi", "chosen": " Hello", "rejected": " Go"}"#, Format::Preference);
    assert_eq!(record, Record::Preference { prompt: plain("Hi"), chosen: plain(" Hello"), rejected: plain(" Go"), tools: vec![] });
    // Text beside turns becomes a turn.
    let expected = Record::Preference {
        prompt: turns([Message::user("Hi")]),
        chosen: turns([Message::assistant("Hello")]),
        rejected: turns([Message::assistant("Go")]),
        tools: vec![],
    };
    for line in [
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello"}], "rejected": [{"role": "assistant", "content": "Go"}]}"#,
        r#"{"prompt": "Hi", "chosen": [{"role": "assistant", "content": "Hello"}], "rejected": [{"role": "assistant", "content": "Go"}]}"#,
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": "Hello", "rejected": "Go"}"#,
        // The prompt is given twice, as in UltraFeedback.
        r#"{"prompt": "Hi", "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go"}]}"#,
        // The prompt is implicit.
        r#"{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go"}]}"#,
    ] {
        assert_eq!(one(line, Format::Preference), expected, "{line}");
    }
    let line = r#"{"chosen_messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "rejected_messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go"}]}"#;
    assert_eq!(one(line, Format::PreferenceMessages), expected);
    let line = r#"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello"}, "rejected": {"from": "gpt", "value": "Go"}}"#;
    assert_eq!(one(line, Format::PreferenceShareGpt), expected);
    let line = r#"{"instruction": "Hi", "input": "", "output": "Hello", "chosen": "Hello", "rejected": "Go"}"#;
    assert_eq!(one(line, Format::PreferenceAlpaca), expected);
}

#[test]
fn an_implicit_text_prompt_is_what_both_sides_begin_with() {
    let record = one(
        r#"{"chosen": "\n\nHuman: Assistant or not?\n\nAssistant: Yes, that.", "rejected": "\n\nHuman: Assistant or not?\n\nAssistant: Yes, this."}"#,
        Format::Preference,
    );
    let Record::Preference { prompt, chosen, rejected, .. } = record else { panic!() };
    assert_eq!(prompt, plain("\n\nHuman: Assistant or not?\n\nAssistant:"));
    assert_eq!((chosen, rejected), (plain(" Yes, that."), plain(" Yes, this.")));
    // No word is cut in two.
    let record = one(r#"{"chosen": "The sky is blue", "rejected": "The sky is black"}"#, Format::Preference);
    let Record::Preference { prompt, chosen, .. } = record else { panic!() };
    assert_eq!((prompt, chosen), (plain("The sky is"), plain(" blue")));
    assert!(error(r#"{"chosen": "blue", "rejected": "black"}"#).contains("begin with the same text"));
}

#[test]
fn sides_that_are_equal_still_leave_an_answer() {
    let same = r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]"#;
    let record = one(&format!(r#"{{"chosen": {same}, "rejected": {same}}}"#), Format::Preference);
    let Record::Preference { prompt, chosen, rejected, .. } = record else { panic!() };
    assert_eq!(prompt, turns([Message::user("Hi")]));
    assert_eq!(chosen, rejected);
}

#[test]
fn ratings() {
    let expected = Record::Rating {
        prompt: turns([Message::user("Hi")]),
        completion: turns([Message::assistant("Hello")]),
        label: true,
        tools: vec![],
    };
    for (line, format) in [
        (
            r#"{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}], "label": true}"#,
            Format::Rating,
        ),
        (
            r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "label": true}"#,
            Format::RatingMessages,
        ),
        (r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "label": 1}"#, Format::RatingShareGpt),
        (r#"{"instruction": "Hi", "output": "Hello", "kto_tag": true}"#, Format::RatingAlpaca),
    ] {
        assert_eq!(one(line, format), expected, "{line}");
    }
    let record = one(r#"{"prompt": "2+2=", "completion": "5", "label": false}"#, Format::Rating);
    assert_eq!(record, Record::Rating { prompt: plain("2+2="), completion: plain("5"), label: false, tools: vec![] });
    let line = r#"{"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hello"}], "label": true}"#;
    assert!(error(line).contains("an assistant turn at the end"));
}

#[test]
fn rankings() {
    let record = one(r#"{"prompt": "Hi", "completions": ["best", "good", "bad"]}"#, Format::Ranking);
    let Record::Ranking { completions, .. } = record else { panic!() };
    assert_eq!(completions, [plain("best"), plain("good"), plain("bad")]);
    assert!(error(r#"{"prompt": "Hi", "completions": ["only"]}"#).contains("at least two completions"));
}

#[test]
fn comparisons_given_as_ids() {
    let ids = |ids: &[u32]| Passage::Ids(ids.to_vec());
    let record = one(r#"{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}"#, Format::PreferenceIds);
    assert_eq!(record, Record::Preference { prompt: ids(&[1]), chosen: ids(&[2, 3]), rejected: ids(&[4]), tools: vec![] });
    let record = one(r#"{"prompt_ids": [1], "completion_ids": [2], "label": false}"#, Format::RatingIds);
    assert_eq!(record, Record::Rating { prompt: ids(&[1]), completion: ids(&[2]), label: false, tools: vec![] });
    let record = one(r#"{"prompt_ids": [1], "completions_ids": [[2], [3, 4]]}"#, Format::RankingIds);
    assert_eq!(record, Record::Ranking { prompt: ids(&[1]), completions: vec![ids(&[2]), ids(&[3, 4])], tools: vec![] });
}

#[test]
fn an_array_reads_like_lines() {
    let lines = "{\"text\": \"a\"}\n{\"text\": \"b ] } , \\\" {\"}\n";
    let array = "\u{feff}[\r\n  {\"text\": \"a\"},\r\n\r\n  {\r\n \"text\":\r\n \"b ] } , \\\" {\"}\r\n]\r\n";
    let (a, b) = (open(lines), open(array));
    assert_eq!((a.layout(), b.layout()), (Layout::Lines, Layout::Array));
    assert!(a.iter().map(Result::unwrap).eq(b.iter().map(Result::unwrap)));
    assert_eq!((b.line(0), b.line(1)), (2, 4));
}

#[test]
fn a_mixture_is_read_as_what_most_of_it_is_and_the_rest_reported() {
    let data = open("{\"text\": \"a\"}\n{\"prompt\": \"p\", \"completion\": \"c\"}\n{\"text\": \"b\"}\n");
    assert_eq!(data.format(), Format::Text);
    let survey = data.survey();
    assert_eq!((survey.usable, survey.bad_count, survey.bad[0].line), (2, 1, 2));
    assert!(survey.bad[0].to_string().contains("prompt-completion"), "{}", survey.bad[0]);
}

#[test]
fn a_record_that_does_not_fit_names_what_is_wrong() {
    for (line, said) in [
        (r#"{"messages": []}"#, "`messages` to hold at least one message"),
        (r#"{"messages": "hi"}"#, "`messages` to be a list"),
        (r#"{"messages": [{"role": "wizard", "content": "x"}]}"#, "messages[0]: a role among"),
        (r#"{"messages": [{"role": "user"}]}"#, "messages[0] to have `content`"),
        (r#"{"messages": [{"content": "x"}]}"#, "messages[0] to have `role`"),
        (r#"{"messages": [{"role": "user", "content": null}]}"#, "found null"),
        (r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}"#, "image_url"),
        (r#"{"messages": [{"role": "assistant", "content": "x", "weight": -1}]}"#, "a number from 0"),
        (r#"{"conversations": [{"from": "function_call", "value": "not json"}]}"#, "a function call as JSON"),
        (r#"{"instruction": "x", "output": 5}"#, "`output` to be text, found the number 5"),
        (r#"{"instruction": "x", "output": "y", "history": [["a"]]}"#, "`history[0]` to be a pair"),
        (r#"{"text": 5}"#, "`text` to be text"),
        (r#"{"input_ids": [1, -2]}"#, "`input_ids[1]` to be a token id"),
        (r#"{"input_ids": [1, 2.5]}"#, "`input_ids[1]` to be a token id"),
        (r#"{"input_ids": [1, 2], "labels": [1]}"#, "as long as `input_ids`"),
        (r#"{"input_ids": [1], "labels": [-5]}"#, "or -100"),
        (r#"{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": "x"}"#, "`rejected_ids` to be a list of token ids"),
        (r#"{"messages": [{"role": "user", "content": "x"}], "tools": "nope"}"#, "`tools`"),
    ] {
        let error = error(line);
        assert!(error.starts_with("line 1: expected ") && error.contains(said), "{line}: {error}");
    }
}
