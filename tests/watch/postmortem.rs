//! The postmortem is complete, harmless, and made from the events alone.

use evenkeel::watch::event::{Act, Impact, What};
use evenkeel::watch::finding::Cause;
use evenkeel::watch::postmortem;
use pulldown_cmark::{Event as Piece, Options, Parser, Tag, TagEnd};

use super::story::{Story, felt, finding, note, opened, suspect, whole};

/// The cells of the table's row that contains `text`.
fn row<'a>(document: &'a str, text: &str) -> Vec<&'a str> {
    let mut rows = document.lines().filter(|line| line.starts_with('|'));
    let row = rows.find(|row| row.contains(text));
    let row = row.unwrap_or_else(|| panic!("no row with {text}:\n{document}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn it_says_what_happened_when_why_and_what_it_cost() {
    let document = postmortem::document(&whole().incident());
    assert_eq!(row(&document, "| cause")[1], "script, 94 % sure");
    assert_eq!(row(&document, "| named |")[1], "after 0.4 s");
    assert_eq!(row(&document, "| stopped |")[1], "after 1.3 s");
    assert_eq!(row(&document, "| shoppers well")[1], "after 3.4 s");
    assert_eq!(row(&document, "| taken care")[1], "Ana Díaz");
    assert_eq!(
        row(&document, "| checkout"),
        ["checkout", "720", "412", "57.2 %"]
    );
    assert_eq!(row(&document, "| all"), ["all", "9000", "1033", "11.5 %"]);
    for said in [
        "Orders lost: about 398",
        "3984000",
        "Not a deploy: none for 6 h",
        "16 shop sessions wait for it",
        "add column reduced boolean",
        "role cron",
        "![What shoppers felt, and what happened when](timeline.svg)",
        "> The schedule was wrong: 10:00 instead of 22:00.",
    ] {
        assert!(document.contains(said), "{said}:\n{document}");
    }
}

#[test]
fn every_event_is_on_the_timeline_to_the_second_and_in_order() {
    let incident = whole().incident();
    let document = postmortem::document(&incident);
    let table = document.split("| time | who |").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let times: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| 1") || line.starts_with("| 0"))
        .map(|line| &line[2..10])
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    for event in &incident.events {
        let time = event.at.format("%H:%M:%S").to_string();
        if !matches!(event.what, What::Felt { .. }) {
            assert!(times.contains(&time.as_str()), "{time} {event:?}:\n{table}");
        }
    }
    // Readings that follow each other share a row, with their extremes.
    assert!(
        row(table, "readings")
            .concat()
            .contains("% of requests fail")
    );
}

#[test]
fn it_is_compared_with_june_minute_by_minute() {
    let document = postmortem::document(&whole().incident());
    assert_eq!(
        row(&document, "| named after"),
        ["named after", "1 h 30 min", "0.4 s"]
    );
    assert_eq!(
        row(&document, "| stopped after"),
        ["stopped after", "1 h 30 min", "1.3 s"]
    );
    assert_eq!(
        row(&document, "| normal after"),
        ["normal after", "2 h 15 min", "3.4 s"]
    );
    assert_eq!(row(&document, "| 0 | automated")[2], "opened");
    assert!(row(&document, "| 75 |")[2].starts_with("normal since 1 h 14 min"));
}

#[test]
fn what_is_left_for_people_follows_from_what_went_wrong() {
    let document = postmortem::document(&whole().incident());
    let tasks = document.split("## Corrective tasks").nth(1).unwrap();
    let tasks: Vec<_> = tasks
        .lines()
        .filter(|line| line.starts_with("- [ ]"))
        .collect();
    for said in ["nightly-reprice", "pricing", "second person", "slack: 503"] {
        assert!(
            tasks.iter().any(|task| task.contains(said)),
            "{said}: {tasks:?}"
        );
    }
    assert!(
        !tasks
            .iter()
            .any(|task| task.contains("Nobody has acknowledged"))
    );
}

#[test]
fn an_incident_that_goes_on_has_a_postmortem_too() {
    let story = Story::open("browse suffers");
    let document = postmortem::document(&story.incident());
    for said in [
        "it still goes on",
        "found no cause",
        "Nobody has acknowledged it",
        "never",
    ] {
        assert!(document.contains(said), "{said}:\n{document}");
    }
    let picture = postmortem::picture(&story.incident()).unwrap();
    assert!(picture.contains("not recorded"), "{picture}");
}

#[test]
fn other_peoples_words_do_nothing() {
    let evil = "a|b\n# c <script>alert(1)</script> [x](javascript:y) `z` **evil** _w_ ~~w~~ $w$ [^1] https://evil.example \u{202e}";
    let mut story = Story::open(evil);
    let culprit = suspect(&format!("select 1 -- ``` {evil}"));
    let mut found = finding(Cause::Script, Some(culprit.clone()), 0.9);
    found.evidence.push(evil.to_owned());
    found.culprit.as_mut().unwrap().application = evil.to_owned();
    found.culprit.as_mut().unwrap().job = None;
    let finding = Box::new(found);
    story.add(1.0, evil, What::Found { finding });
    let acted = What::Acted {
        act: Act::Cancel,
        suspect: Box::new(culprit.clone()),
        policy: evil.to_owned(),
        problem: Some(evil.to_owned()),
        undo: evil.to_owned(),
    };
    story.add(2.0, "watch", acted);
    story.add(3.0, evil, note(evil));
    story.add(
        3.5,
        evil,
        What::Acknowledged {
            via: evil.to_owned(),
        },
    );
    let changed = What::Changed {
        summary: evil.to_owned(),
        source: evil.to_owned(),
    };
    story.add(4.0, evil, changed);
    let document = postmortem::document(&story.incident());
    let mut headings = 0;
    let mut code = String::new();
    let mut inside = None;
    for event in Parser::new_ext(&document, Options::all()) {
        match event {
            Piece::Start(Tag::Heading { .. }) => headings += 1,
            Piece::Start(Tag::CodeBlock(_)) => inside = Some(TagEnd::CodeBlock),
            Piece::Start(Tag::Strong) => inside = Some(TagEnd::Strong),
            Piece::End(end) if inside == Some(end) => inside = None,
            Piece::Text(text) if inside == Some(TagEnd::CodeBlock) => code.push_str(&text),
            Piece::Text(text) if inside == Some(TagEnd::Strong) => {
                assert!(!text.contains("evil"), "{text}");
            }
            // Ours: what to type.
            Piece::Code(text) => assert!(text.starts_with("evenkeel "), "{text}"),
            Piece::Start(Tag::Image { dest_url, .. }) => assert_eq!(&*dest_url, "timeline.svg"),
            Piece::Html(_)
            | Piece::InlineHtml(_)
            | Piece::InlineMath(_)
            | Piece::FootnoteReference(_)
            | Piece::Start(Tag::Link { .. } | Tag::Emphasis | Tag::Strikethrough) => {
                panic!("{event:?}:\n{document}")
            }
            _ => {}
        }
    }
    assert_eq!(headings, 9, "{document}");
    assert_eq!(
        code.trim_end(),
        culprit.statement.replace('\u{202e}', "").trim_end()
    );
    assert!(!document.contains('\u{202e}'), "{document}");
    let timeline = document.split("| time | who |").nth(1).unwrap();
    for line in timeline
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
    {
        let bars = line.replace("\\|", "").matches('|').count();
        assert_eq!(bars, 4, "{line}");
    }
    let picture = postmortem::picture(&story.incident()).unwrap();
    assert!(!picture.contains("<script"), "{picture}");
    assert!(
        !picture.contains(|c: char| c.is_control() && c != '\n'),
        "{picture}"
    );
}

#[test]
fn a_timeline_of_any_length_can_be_drawn() {
    for (step_s, count) in [
        (0.0, 1),
        (0.001, 5),
        (1.0, 7200),
        (3600.0, 200),
        (86400.0, 400),
    ] {
        let mut story = Story::open("long");
        for n in 0..count {
            let after = f64::from(n) * step_s;
            story.add(after, "watch", felt(f64::from(n % 7) / 7.0, f64::from(n)));
        }
        story.add(f64::from(count) * step_s, "watch", What::Recovered);
        let impact = Box::new(Impact::default());
        story.add(
            f64::from(count) * step_s,
            "watch",
            What::Resolved { impact },
        );
        let picture = postmortem::picture(&story.incident()).unwrap();
        assert!(picture.ends_with("</svg>\n"), "{step_s} {count}");
    }
}

#[test]
fn numbers_that_are_none_do_not_stop_the_drawing() {
    let mut story = Story::open("odd numbers");
    story.add(1.0, "watch", felt(f64::NAN, f64::NAN));
    story.add(2.0, "watch", felt(f64::INFINITY, f64::INFINITY));
    story.add(3.0, "watch", felt(-1.0, -1.0));
    story.add(4.0, "watch", felt(1e300, 0.0));
    story.add(4.0, "watch", opened("again"));
    postmortem::picture(&story.incident()).unwrap();
    postmortem::document(&story.incident());
}

#[tokio::test]
async fn both_files_are_written_and_an_unwritable_place_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("a/b");
    let written = postmortem::write(&whole().incident(), &out).await.unwrap();
    assert_eq!(written.document, out.join("postmortem.md"));
    let svg = std::fs::read_to_string(written.picture).unwrap();
    assert!(svg.starts_with("<svg"));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let err = postmortem::write(&whole().incident(), &file)
        .await
        .unwrap_err();
    let said = err.to_string();
    assert!(said.contains("file") && said.contains("--out"), "{said}");
}
