//! `attune reward train|score` and `attune run --best-of`: the run folder, scores, the choice among answers, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, has_keys};
use serde_json::{Value, json};

fn log(home: &Home, run: &str) -> Vec<Value> {
    String::from_utf8(home.read(&format!("{run}/log.jsonl"))).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pairs(count: usize) -> String {
    let line = |i: usize| json!({ "prompt": format!("Say number {i}: "), "chosen": "one", "rejected": "the ring here" }).to_string();
    (0..count).map(|i| line(i) + "\n").collect()
}

const TRAIN: &str = "reward train --model tiny.gguf --data pairs.jsonl --out run --batch-size 2 --gradient-accumulation 2 --learning-rate 5e-3 --rank 4 \
                     --max-length 96";

fn home() -> Home {
    let home = Home::new();
    home.write("pairs.jsonl", pairs(12));
    home
}

fn trained() -> Home {
    let home = home();
    home.ok(&format!("{TRAIN} --epochs 2"));
    home
}

#[test]
fn a_reward_models_run_folder_is_as_that_of_tune_and_its_accuracy_rises() {
    let home = home();
    let result = home.json(&format!("{TRAIN} --epochs 3 --eval-split 0.3 --save-every 2 --center-rewards-coefficient 0.01"));
    has_keys(&result, &["step", "loss", "accuracy", "eval_accuracy", "eval_margin", "adapter", "report", "log", "best"]);
    assert!(result.get("eval_token_accuracy").is_none(), "no tokens are predicted");
    for file in ["config.json", "log.jsonl", "adapter.attune", "report.html", "checkpoint"] {
        assert!(home.path("run").join(file).exists(), "{file}");
    }
    let config: Value = serde_json::from_slice(&home.read("run/config.json")).unwrap();
    assert_eq!(config["reward"], json!({ "center_rewards_coefficient": 0.01, "share_prompts": true }));
    let lines = log(&home, "run");
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    steps
        .iter()
        .for_each(|line| has_keys(line, &["step", "loss", "grad_norm", "accuracy", "margin", "min_reward", "mean_reward", "max_reward"]));
    let evals: Vec<&Value> = lines.iter().filter(|line| line.get("eval_loss").is_some()).collect();
    assert!((evals[0]["eval_loss"].as_f64().unwrap() - core::f64::consts::LN_2).abs() < 1e-6);
    assert_eq!((evals[0]["eval_accuracy"].as_f64(), evals.last().unwrap()["eval_accuracy"].as_f64()), (Some(0.0), Some(1.0)));
    let last = evals.last().unwrap();
    let number = |name: &str| last[name].as_f64().unwrap();
    let (better, worse) = (number("eval_chosen_reward"), number("eval_rejected_reward"));
    assert!((better - worse - number("eval_margin")).abs() < 1e-6 && better > worse, "{last}");
    let page = String::from_utf8(home.read("run/report.html")).unwrap();
    for drawn in ["Mean scores of better and worse answers", "Better answers with the larger score", "Margin between the scores"] {
        assert!(page.contains(&format!("<figcaption>{drawn}")), "{drawn}");
    }
    let said = home.json("adapter inspect run");
    assert_eq!(said["score_head"], json!(64));
}

#[test]
fn a_run_that_was_interrupted_goes_on_to_the_same_bytes_and_threads_do_not_matter() {
    let home = home();
    let train = format!("{TRAIN} --steps 6 --dropout 0.1 --save-every 3");
    home.ok(&format!("{train} --threads 1"));
    let whole = home.read("run/adapter.attune");
    for name in std::fs::read_dir(home.path("run/checkpoint")).unwrap().map(|entry| entry.unwrap().path()) {
        if name.to_string_lossy().contains("0006") {
            std::fs::remove_file(name).unwrap();
        }
    }
    home.fails(2, "reward train --resume --out run --center-rewards-coefficient 0.5", &["reward"]);
    home.fails(2, "tune --resume --out run", &["attune reward train --resume"]);
    home.ok("reward train --resume --out run --threads 2");
    assert_eq!(home.read("run/adapter.attune"), whole);
}

#[test]
fn answers_are_scored_from_data_and_from_the_command_line() {
    let home = home();
    let said = home.ok(&format!("{TRAIN} --epochs 2 --eval-split 0.3"));
    assert!(said.contains("even before, 100.0 % after") && said.contains("margin") && said.contains("0.0000 before"), "{said}");
    let home = trained();
    let said = home.json("reward score --model tiny.gguf --reward run --data pairs.jsonl");
    has_keys(&said, &["accuracy", "margin", "loss", "mean_reward", "examples", "scores"]);
    assert_eq!((said["accuracy"].as_f64(), said["scores"].as_array().unwrap().len()), (Some(1.0), 12));
    let scores = said["scores"][3]["scores"].as_array().unwrap();
    assert!(said["scores"][3]["index"] == json!(3) && scores[0].as_f64() > scores[1].as_f64());
    let mut command = home.command("reward score --model tiny.gguf --reward run --raw --json");
    command.args(["--prompt", "Say number 3: ", "--answer", "the ring here", "--answer", "one"]);
    let said: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!((said["scores"].as_array().unwrap().len(), &said["best"]), (2, &json!(1)));
    let given = said["scores"][1].as_f64().unwrap() - scores[0].as_f64().unwrap();
    assert!(given.abs() < 0.05, "as in the data: {given}");
    let ids = home.json("reward score --model bare.gguf --reward run --prompt-ids 1,2,3 --answer-ids 4,5 --answer-ids 6");
    assert_eq!(ids["scores"].as_array().unwrap().len(), 2);
    home.write("my.txt", "x");
    assert!(home.ok("reward score --model tiny.gguf --reward run --prompt Say --answer one --answer ring").contains("best"));
    assert!(home.ok("reward score --model tiny.gguf --reward run --data pairs.jsonl").contains("100.0 %"));
}

#[test]
fn the_best_of_several_answers_is_given() {
    let home = trained();
    let run = "run --model tiny.gguf --raw --prompt Say --max-tokens 6 --temperature 1 --top-k 0 --top-p 1 --seed 7";
    let plain = home.json(run);
    let said = home.json(&format!("{run} --best-of 6 --reward run"));
    let answers = said["answers"].as_array().unwrap();
    assert_eq!((answers.len(), &answers[0]["text"]), (6, &plain["text"]), "the first is what would be answered without a choice");
    let score = |answer: &Value| answer["score"].as_f64().unwrap();
    let best = said["best"].as_u64().unwrap() as usize;
    assert!(answers.iter().all(|answer| score(answer) <= score(&answers[best])));
    assert_eq!((&said["text"], score(&said)), (&answers[best]["text"], score(&answers[best])));
    assert!(answers.iter().any(|answer| answer["text"] != answers[0]["text"]), "seeds differ");
    assert_eq!(home.json(&format!("{run} --best-of 6 --reward run")), said, "and are the same every time");
    let chat = home.json("run --model tiny.gguf --prompt Say --max-tokens 4 --best-of 2 --reward run");
    assert_eq!(chat["answers"].as_array().unwrap().len(), 2);
    let ids = home.json("run --model bare.gguf --prompt-ids 1,2 --max-tokens 4 --best-of 3 --reward run");
    assert_eq!(ids["answers"].as_array().unwrap().len(), 3);
    assert!(!home.ok(&format!("{run} --best-of 2 --reward run")).is_empty());
    let same = home.json("run --model tiny.gguf --raw --prompt Say --max-tokens 3 --temperature 0.00001 --best-of 3 --reward run");
    let texts: Vec<&Value> = same["answers"].as_array().unwrap().iter().map(|answer| &answer["text"]).collect();
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "so cold, all draws are the same, and are scored: {same}");
}

#[test]
fn mistakes_are_named() {
    let home = trained();
    let run = "run --model tiny.gguf --prompt Say --max-tokens 2";
    home.fails(2, &format!("{run} --best-of 4"), &["--reward"]);
    home.fails(2, &format!("{run} --reward run"), &["--best-of"]);
    home.fails(2, &format!("{run} --best-of 1 --reward run"), &["--best-of", "2 to", "found 1"]);
    home.fails(2, &format!("{run} --best-of 3 --reward run --temperature 0"), &["--temperature"]);
    home.fails(2, "run --model tiny.gguf --best-of 3 --reward run", &["--prompt"]);
    home.ok("tune --model tiny.gguf --data chat.jsonl --out tuned --steps 1");
    home.fails(1, &format!("{run} --best-of 3 --reward tuned"), &["score head", "attune reward train"]);
    home.fails(1, "reward score --model tiny.gguf --reward tuned --data pairs.jsonl", &["score head"]);
    home.fails(2, "reward score --model tiny.gguf --reward run", &["--data"]);
    home.fails(2, "reward score --model tiny.gguf --reward run --prompt-ids 1 --answer-ids x", &["--answer-ids", "\"x\""]);
    home.fails(1, "reward score --model tiny.gguf --reward run --data chat.jsonl", &["reward model", "pairs"]);
    home.fails(1, "reward train --model tiny.gguf --data chat.jsonl --out other", &["reward model", "pairs"]);
    assert!(!home.path("other").exists(), "nothing stays of a refused run");
    home.fails(2, "reward train --model tiny.gguf --data pairs.jsonl --out other --center-rewards-coefficient -1", &[]);
    home.fails(2, "reward train --resume --out tuned", &["attune tune --resume"]);
    home.ok("tune --model tiny.gguf --data chat.jsonl --out from --steps 1 --init-adapter run");
    assert_eq!(home.json("adapter inspect from")["score_head"], json!(0), "a head is not part of a model that answers");
    home.fails(1, "adapter export run --model tiny.gguf --format gguf --out lora.gguf", &["score head"]);
    home.ok("adapter export run --model tiny.gguf --format peft --out peft");
    assert_eq!(home.json("reward score --model tiny.gguf --reward peft --data pairs.jsonl")["accuracy"], json!(1.0));
}

#[test]
fn a_reward_model_is_planned_before_it_is_tuned() {
    let home = home();
    let plan = home.json("plan --model tiny.gguf --for reward --max-length 64 --rank 4");
    let names: Vec<&str> = plan["buffers"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"scores") && !names.contains(&"logits"), "{names:?}");
    let needs = plan["total_bytes"].as_u64().unwrap();
    home.fails(1, "plan --model tiny.gguf --for reward --budget 1000", &["would do"]);
    let fits = home.json(&format!("plan --model tiny.gguf --for reward --max-length 64 --rank 4 --budget {}", needs * 3 / 4));
    assert!(fits["total_bytes"].as_u64().unwrap() <= needs * 3 / 4);
}

#[test]
fn a_feedback_store_and_ids_are_learnt_from_as_they_are() {
    let home = home();
    for (answer, edit) in [("the_ring", "tea"), ("here_the", "one")] {
        home.ok(&format!("feedback add my.feedback --prompt Say --answer {answer} --edit {edit}"));
    }
    home.ok("reward train --model tiny.gguf --data my.feedback --out store --steps 3 --learning-rate 1e-2");
    assert!(log(&home, "store")[2]["loss"].as_f64() < log(&home, "store")[0]["loss"].as_f64());
    home.write("rankings.jsonl", "{\"prompt_ids\": [1, 2, 3], \"completions_ids\": [[4, 5], [6], [7, 8]]}\n");
    home.ok("reward train --model bare.gguf --data rankings.jsonl --out ids --steps 3 --learning-rate 1e-2 --gradient-accumulation 1");
    assert!(log(&home, "ids")[2]["loss"].as_f64() < log(&home, "ids")[0]["loss"].as_f64());
}
