//! The C programs of `tests/c` and `examples`, compiled against the header and run with the static and with the shared library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the static library needs of the system.
const SYSTEM: [&str; 5] = ["-lpthread", "-ldl", "-lm", "-lrt", "-lgcc_s"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Static,
    Shared,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the libraries lie that this test was built with, in the same profile.
fn libraries() -> PathBuf {
    let folder = std::env::current_exe().expect("this program").parent().expect("its folder").to_path_buf();
    for name in ["libattune_c.a", "libattune_c.so"] {
        assert!(folder.join(name).is_file(), "{} is missing", folder.join(name).display());
    }
    folder
}

fn model() -> PathBuf {
    root().join("../builtin/assets/attune-base.gguf").canonicalize().expect("the built-in model")
}

/// Runs a command; its output, if it succeeds.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{said}{}", String::from_utf8_lossy(&stderr));
    said
}

/// Compiles a program with the flags of its language, every warning an error.
fn compile(source: &str, kind: Kind, out: &Path) -> PathBuf {
    let (source, libraries) = (root().join(source), libraries());
    let cpp = source.extension().is_some_and(|e| e == "cpp");
    let program = out.join(format!("{}-{kind:?}", source.file_name().unwrap().to_string_lossy()));
    let mut command = Command::new(if cpp { "c++" } else { "cc" });
    command.args([if cpp { "-std=c++17" } else { "-std=c11" }, "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"]);
    command.arg("-I").arg(root().join("include")).arg(&source).arg("-o").arg(&program);
    match kind {
        Kind::Static => command.arg(libraries.join("libattune_c.a")).args(SYSTEM),
        Kind::Shared => {
            // Under the name that it is installed by, and that programs ask for.
            let named = out.join("libattune.so");
            let _ = std::fs::remove_file(&named);
            std::os::unix::fs::symlink(libraries.join("libattune_c.so"), &named).expect("a link");
            command.arg("-L").arg(out).args(["-lattune", "-lpthread"]).arg(format!("-Wl,-rpath,{}", out.display()))
        }
    };
    run(&mut command);
    program
}

/// Compiles a program both ways and runs it; what each of them said.
fn both(source: &str, arguments: impl Fn(&Path) -> Vec<PathBuf>) -> [String; 2] {
    [Kind::Static, Kind::Shared].map(|kind| {
        let folder = tempfile::tempdir().expect("a folder");
        let program = compile(source, kind, folder.path());
        let said = run(Command::new(program).args(arguments(folder.path())));
        println!("{said}");
        said
    })
}

#[test]
fn every_misuse_that_can_be_seen_is_an_error() {
    both("tests/c/misuse.c", |_| vec![model()]);
}

#[test]
fn the_whole_way_from_opening_to_rolling_back_works() {
    both("tests/c/work.c", |folder| vec![model(), folder.into()]);
}

#[test]
fn feedback_is_kept_erased_and_learnt_from() {
    both("tests/c/feedback.c", |folder| vec![model(), folder.into()]);
}

#[test]
fn reward_models_score_and_rewards_are_learnt_from() {
    both("tests/c/rewards.c", |folder| vec![model(), folder.into()]);
}

#[test]
fn sessions_on_two_threads_and_two_models_do_not_disturb_each_other() {
    both("tests/c/threads.c", |_| vec![model()]);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn an_answer_allocates_nothing_from_token_to_token() {
    both("tests/c/no_alloc.c", |_| vec![model()]);
}

#[test]
fn what_is_asked_to_end_ends_soon() {
    both("tests/c/cancel.c", |_| vec![model()]);
}

#[test]
fn cycles_of_opening_tuning_and_closing_leave_nothing_behind() {
    both("tests/c/cycles.c", |_| vec![model(), "120".into()]);
}

#[test]
fn the_c_plus_plus_header_frees_throws_and_tunes() {
    both("tests/c/cpp.cpp", |folder| vec![model(), folder.into()]);
}

#[test]
fn the_example_that_tunes_has_sixty_lines_and_learns() {
    let source = std::fs::read_to_string(root().join("examples/tune.c")).expect("the example");
    assert!(source.lines().count() <= 60, "{} lines", source.lines().count());
    for said in both("examples/tune.c", |folder| vec![model(), folder.join("adapter.attune")]) {
        let answers: Vec<&str> = said.lines().collect();
        assert_eq!(answers.last(), Some(&"The capital of Portugal is Lisbon."), "{said}");
        assert_ne!(answers.first(), Some(&"The capital of Portugal is Lisbon."), "it knew before it was tuned");
    }
}

#[test]
fn the_example_that_prefers_tunes_on_what_a_person_made_of_answers() {
    for said in both("examples/prefer.c", |folder| vec![model(), folder.join("store"), folder.join("adapter.attune")]) {
        assert!(said.contains("update 1 of 10"), "{said}");
    }
}

#[test]
fn the_example_that_chats_answers_each_line() {
    use std::io::Write;
    use std::process::Stdio;
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile("examples/chat.c", Kind::Shared, folder.path());
    let mut child = Command::new(program).arg(model()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("chat");
    child.stdin.take().expect("its input").write_all(b"What does a cow say?\nAnd a dog?\n").expect("writing");
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.matches("> ").count() >= 3, "{said}");
}

/// The layouts hold wherever C programs are compiled: here, and as far as there are compilers with 32 bits. Those need no C library for it.
#[test]
fn layouts_are_the_same_for_32_and_64_bits_as_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("string.h"), "#include <stddef.h>\nsize_t strlen(const char *);\n").expect("a header");
    let compilers: [&[&str]; 4] = [&["cc"], &["cc", "-m32"], &["arm-linux-gnueabihf-gcc"], &["aarch64-linux-gnu-gcc", "-mabi=ilp32"]];
    let mut checked = 0;
    for compiler in compilers {
        let (program, flags) = compiler.split_first().expect("a program");
        let Ok(own) = Command::new(program).arg("-print-file-name=include").output() else {
            println!("skipped: {program} is not installed");
            continue;
        };
        let own = String::from_utf8_lossy(&own.stdout).trim().to_owned();
        let mut command = Command::new(program);
        command.args(flags).args([
            "-std=c11",
            "-ffreestanding",
            "-nostdinc",
            "-fsyntax-only",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-isystem",
            &own,
        ]);
        command.arg("-isystem").arg(folder.path()).arg("-I").arg(root().join("include"));
        run(command.arg(root().join("tests/c/layout.c")));
        // That the comparison can fail.
        let wrong = root().join("tests/c/layout.c");
        let output = command.arg("-Dneeded_bytes=status").arg(wrong).output().expect("the compiler");
        assert!(!output.status.success(), "{compiler:?} accepts anything");
        println!("checked: {compiler:?}");
        checked += 1;
    }
    assert!(checked > 0);
}
