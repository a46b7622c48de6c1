//! Whoever follows a citation or a link finds what it speaks of: sections of the books in `tests/spec`
//! that the code's `Rule:` lines name, files, and headings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words behind which numbers are not sections: "check 14", "rows 5, 7 and 8".
const SMALLER: [&str; 5] = ["row", "check", "promise", "item", "invariant"];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All files below `folder` whose names end in one of `ends`.
fn files(folder: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        if path.is_dir() {
            files(&path, ends, found);
        } else if ends.contains(&end) {
            found.push(path);
        }
    }
}

fn below(folders: &[&str], ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| files(&root(folder), ends, &mut found));
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of a text outside its code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// The numbers of the sections of a book: `## 7. Failures` is 7, `### 2.2 Readers` is 2.2.
fn sections(text: &str) -> BTreeSet<String> {
    let first = headings(text).filter_map(|heading| heading.split(' ').next());
    first
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

/// A source as one text, without the signs of its comments: a citation may go over the end of a line.
fn flat(text: &str) -> String {
    let line = |line: &str| line.trim().trim_start_matches(['/', '!']).trim_start().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join(" ")
}

/// Each book that `text` cites, and the sections that it names of it.
fn citations(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (end, _) in text.match_indices(".md") {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
        let start = text[..end].rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
        let rest = &text[end + ".md".len()..];
        let is_whole = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if start < end && is_whole {
            found.push((format!("{}.md", &text[start..end]), numbers(rest)));
        }
    }
    found
}

/// The sections at the front of `text`: "2.2, 2.3 and 6", "1 to 4", "7, row 21; 8".
fn numbers(text: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    // Whether rows, checks and the like are being counted, and whether a range has begun.
    let (mut smaller, mut range) = (false, false);
    for word in text.split(' ').skip(1) {
        let bare = word.trim_end_matches([',', ';', ':', '.', ')']);
        if bare.starts_with(|c: char| c.is_ascii_digit()) {
            if !bare.split('.').all(|part| part.parse::<u8>().is_ok()) {
                break;
            }
            if range && !smaller {
                let first = sections.last().and_then(|first| first.parse::<u8>().ok());
                let ends = first.zip(bare.parse::<u8>().ok());
                sections
                    .extend(ends.into_iter().flat_map(|(a, b)| a + 1..b).map(|n| n.to_string()));
            }
            if !smaller {
                sections.push(bare.to_owned());
            }
            range = false;
        } else if SMALLER.contains(&bare.trim_end_matches('s')) {
            smaller = true;
        } else if word == "to" {
            range = true;
        } else if word != "and" {
            break;
        }
        smaller &= !word.ends_with(';');
        if word.ends_with(['.', ':', ')']) {
            break;
        }
    }
    sections
}

/// What GitHub makes of a heading in an address.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The addresses of the links in a text.
fn links(text: &str) -> Vec<String> {
    let text = prose(text).collect::<Vec<_>>().join(" ");
    let link = |part: &str| part.split_once(')').map(|(link, _)| link.to_owned());
    text.split("](").skip(1).filter_map(link).collect()
}

#[test]
fn sections_are_read_out_of_citations() {
    let cited = |text: &str| citations(text).remove(0);
    let of = |text: &str| cited(text).1;
    assert_eq!(cited("Rule: rest-api.md 1.2 and 1.9, checks 15 and 16. 7").0, "rest-api.md");
    assert_eq!(of("rest-api.md 1.2 and 1.9, checks 15 and 16. 7"), ["1.2", "1.9"]);
    assert_eq!(
        of("webhooks.md 1 to 4, 8.3, 8.4 and 10."),
        ["1", "2", "3", "4", "8.3", "8.4", "10"]
    );
    assert_eq!(of("cluster.md 2.3; 7, row 10 and 12"), ["2.3", "7"]);
    assert_eq!(of("design.md 2, promises 1 and 3; 4, a list"), ["2", "4"]);
    assert_eq!(of(&flat("/// Rule: cluster.md\n    /// 2.4, the fate")), ["2.4"]);
    assert_eq!(of("(cluster.md 4):"), ["4"]);
    assert!(of("rest-api.md says 3 things").is_empty());
    assert!(citations("see THREATS.md 4").is_empty());
    assert_eq!(sections("# A 1\n## 7. B\n```\n# 8\n```\n### 7.1 C"), sections("# 7 x\n# 7.1 y"));
}

#[test]
fn every_section_that_is_cited_is_there() {
    let mut checked = 0;
    for path in
        below(&["src", "tests"], &["rs", "sh", "py"]).iter().chain(&below(&["src"], &["md"]))
    {
        // The examples above.
        if path.ends_with(file!()) {
            continue;
        }
        for (book, cited) in citations(&flat(&read(path))) {
            let file = root("tests/spec").join(&book);
            assert!(file.exists(), "{}: there is no book {book}", path.display());
            let there = sections(&read(&file));
            for section in cited {
                assert!(there.contains(&section), "{}: {book} has no {section}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "{checked} citations");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut pages = below(&["src", "tests/spec", "compose", "schemas"], &["md"]);
    pages.push(root("README.md"));
    let mut checked = 0;
    for page in pages {
        for link in links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = page.parent().expect("a folder").join(file);
            let target = if file.is_empty() { page.clone() } else { target };
            assert!(target.exists(), "{}: {link}", page.display());
            let found = heading.is_empty() || headings(&read(&target)).any(|h| slug(h) == heading);
            assert!(found, "{}: {link} names no heading", page.display());
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} links");
}
