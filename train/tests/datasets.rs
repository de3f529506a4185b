//! Datasets as they are published, and what is promised of every problem.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lcr_answers::{Judgement, equivalent, holds_box, judge_text};
use lcr_train::tasks::dataset::{Dataset, Reason};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn open(name: &str) -> Dataset {
    Dataset::open(&data(name)).expect("usable")
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("room");
    std::fs::write(&path, content).expect("room");
    path
}

fn assert_promises(dataset: &Dataset) {
    assert!(dataset.refused.is_empty(), "{:?}", dataset.refused);
    for (index, problem) in dataset.problems.iter().enumerate() {
        assert_eq!(problem.index, index);
        assert!(!problem.prompt.trim().is_empty() && !problem.thinking.is_empty() && !problem.ground_truth.is_empty());
        assert!(!holds_box(&problem.thinking) && !problem.thinking.contains("think>"), "{}", problem.thinking);
        assert_eq!(
            judge_text(&problem.final_text, &problem.ground_truth, &[]),
            Judgement::Correct,
            "{}",
            problem.final_text
        );
    }
}

#[test]
fn gsm8k_is_read_as_it_is_published() {
    let dataset = open("gsm8k_excerpt.jsonl");
    assert_promises(&dataset);
    assert_eq!((dataset.problems.len(), dataset.notes.len()), (15, 0));
    let first = dataset.problems.first().expect("fifteen");
    assert_eq!(
        first.thinking,
        "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether in April and May."
    );
    assert_eq!(
        (first.final_text.as_str(), first.ground_truth.as_str(), first.kind.as_str()),
        ("\\boxed{72}", "72", "gsm8k")
    );
    assert!(dataset.problems.iter().all(|problem| !problem.thinking.contains(['<', '#'])));
}

#[test]
fn math500_is_read_as_it_is_published() {
    let dataset = open("math500_excerpt.jsonl");
    assert_promises(&dataset);
    assert_eq!((dataset.problems.len(), dataset.notes.len()), (19, 0));
    let first = dataset.problems.first().expect("nineteen");
    assert!(first.thinking.ends_with(r"Therefore, the polar coordinates are $\left( 3, \frac{\pi}{2} \right).$"));
    assert_eq!(first.final_text, r"\boxed{\left( 3, \frac{\pi}{2} \right)}");
    assert_eq!(first.kind, "Precalculus");
}

/// Different problems of the excerpts have different answers, unless the same one is written in two ways.
#[test]
fn published_answers_equal_themselves_and_not_each_other() {
    let (math, school) = (open("math500_excerpt.jsonl"), open("gsm8k_excerpt.jsonl"));
    let truths: BTreeSet<&str> =
        math.problems.iter().chain(&school.problems).map(|problem| problem.ground_truth.as_str()).collect();
    let mut equal = Vec::new();
    for left in &truths {
        assert!(equivalent(left, left).is_equal(), "{left}");
        equal.extend(
            truths
                .iter()
                .filter(|right| left < *right && equivalent(left, right).is_equal())
                .map(|right| (left, right)),
        );
    }
    assert_eq!(equal, [(&"5", &"x=5")]);
}

#[test]
fn maths_own_files_are_a_folder_of_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let solution = r"We add: $1+1=\\boxed{2}.$ So it is $\\fbox{2}$."; // As it stands in JSON.
    let text = format!(r#"{{"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "{solution}"}}"#);
    let algebra = write(folder.path(), "algebra/10.json", &text.replace(", \"level\"", ",\n \"level\""));
    write(folder.path(), "geometry/2.json", &text.replace("Algebra", "Geometry"));
    write(folder.path(), "geometry/3.json", &text.replace("fbox{2}", "fbox{3}"));
    write(folder.path(), "geometry/notes.txt", "not a problem");
    let dataset = Dataset::open(folder.path()).expect("usable");
    let kinds: Vec<_> = dataset.problems.iter().map(|problem| (problem.line, problem.kind.as_str())).collect();
    assert_eq!(kinds, [(1, "Algebra"), (2, "Geometry")]);
    assert_eq!(dataset.problems.first().expect("two").thinking, "We add: $1+1=2.$ So it is $2$.");
    let refused = dataset.refused.first().expect("one");
    assert!(refused.path.ends_with("geometry/3.json"), "{refused}");
    assert!(
        matches!(&refused.reason, Reason::TwoBoxes { first, second, .. } if first == "2" && second == "3"),
        "{refused}"
    );
    assert_eq!(Dataset::open(&algebra).expect("one object").problems.len(), 1);
}

#[test]
fn published_forms_are_refused_where_they_contradict_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = [
        r#"{"question": "q", "answer": "t\n#### 2"}"#,
        r#"{"question": "q", "answer": "t 2"}"#,
        r#"{"question": "q", "answer": "t\n#### 2\n#### 3"}"#,
        r#"{"question": "q", "answer": "t <<1+1=2\n#### 2"}"#,
        r#"{"question": "q", "answer": "t\n####"}"#,
        r#"{"question": "q", "answer": "\n#### 2"}"#,
        r#"{"problem": "p", "solution": "so 2"}"#,
        r#"{"problem": "p", "solution": "so $\\boxed{2$"}"#,
        r#"{"problem": "p", "solution": "so $\\boxed{2}$", "answer": "3"}"#,
        r#"{"Body": "b", "Question": "q?", "Equation": "( 4.0 - 2.0 ) + 3.0", "Answer": 1.0}"#,
        r#"{"Body": "b", "Question": "q?", "Equation": "( 4.0 - 2.0 )", "Answer": "2"}"#,
    ];
    let dataset = Dataset::open(&write(folder.path(), "all.jsonl", &lines.join("\n"))).expect("the first is usable");
    let refused: Vec<String> =
        dataset.refused.iter().map(|refused| format!("{}: {}", refused.line, refused.reason)).collect();
    let expected = [
        "2: `answer` does not end in `#### `",
        "3: `answer` holds `####` twice",
        "4: `answer` holds a calculator mark",
        "5: `answer` cannot be compared with anything",
        "6: `thinking` is empty",
        "7: `solution` holds no box",
        "8: the box in `solution` never closes",
        "9: the worked answer is `2`, but `answer` is `3`",
        "10: `Equation` `( 4.0 - 2.0 ) + 3.0` does not give the answer 1",
        "11: `Answer` is a text, but must be a number",
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for (found, expected) in refused.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} | {expected}");
    }
}

#[test]
fn svamp_teaches_its_equation() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = r#"{"ID": "chal-0", "idx": 0, "Body": "There are 8 hens in 2 coops. If each coop has a door", "Question":
        "how many hens share a door?", "Equation": "( 8.0 / 2.0 )", "Answer": 4.0, "Type": "Common-Division"}"#;
    let dataset = Dataset::open(&write(folder.path(), "svamp.jsonl", &line.replace('\n', " "))).expect("usable");
    assert_promises(&dataset);
    assert!(dataset.notes.is_empty());
    let problem = dataset.problems.first().expect("one");
    assert_eq!(problem.prompt, "There are 8 hens in 2 coops. If each coop has a door, how many hens share a door?");
    assert_eq!((problem.thinking.as_str(), problem.final_text.as_str()), ("8 / 2 = 4", "\\boxed{4}"));
    assert_eq!(problem.kind, "Common-Division");
}
