//! Completions: those of clap, and the names of snapshots, which are read from the image.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

/// The commands with options that take the name of a snapshot that exists.
const TAKING_A_SNAPSHOT: [(&str, &[&str]); 4] = [
    ("convert", &["--source-snapshot", "-l", "-s"]),
    ("measure", &["--snapshot", "-l"]),
    ("snapshot", &["--apply", "-a"]),
    ("snapshot", &["--delete", "-d"]),
];

/// Where the part of bash's script for one command begins, before its name, and where it ends.
const SECTION_START: &str = "\n        qcheck__subcmd__";
const SECTION_END: &str = "\n            ;;";
/// What it ends with.
const BASH_OPTIONS: &str = r#"COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )"#;

/// Prints the snapshots of the images on the command line. A name with a quote or a backslash is
/// left out: JSON escapes those. Nothing expands what an image contains.
const BASH: &str = r#"_qcheck_snapshots() {
    local word
    for word in "${COMP_WORDS[@]:2}"; do
        [[ -f $word ]] || continue
        "${COMP_WORDS[0]}" snapshot -l --output json -- "$word" 2>/dev/null |
            sed -n 's/^ *"name": "\([^"\\]*\)",\{0,1\}$/\1/p'
    done
}

"#;
const BASH_FILES: &str = r#"COMPREPLY=($(compgen -f "${cur}"))"#;
const BASH_SNAPSHOTS: &str = r#"COMPREPLY=()
                    while IFS= read -r name; do
                        [[ $name == "${cur}"* ]] && COMPREPLY+=("$(printf '%q' "$name")")
                    done < <(_qcheck_snapshots)"#;

const ZSH: &str = r#"
(( $+functions[_qcheck_snapshots] )) ||
_qcheck_snapshots() {
    local word
    local -a names
    for word in ${(Q)words}; do
        [[ -f $word ]] || continue
        names+=(${(f)"$(qcheck snapshot -l --output json -- $word 2>/dev/null |
            sed -n 's/^ *"name": "\([^"\\]*\)",\{0,1\}$/\1/p')"})
    done
    compadd -a names
}
"#;

const FISH: &str = r#"function __fish_qcheck_snapshots
    for word in (commandline -opc)
        test -f $word; or continue
        qcheck snapshot -l --output json -- $word 2>/dev/null |
            string replace -rf '^ *"name": "([^"\\\\]*)",?$' '$1'
    end
end
"#;

/// The files and what is in them.
pub fn completions() -> Vec<(PathBuf, Vec<u8>)> {
    [
        (Shell::Bash, "qcheck.bash"),
        (Shell::Zsh, "_qcheck"),
        (Shell::Fish, "qcheck.fish"),
        (Shell::PowerShell, "_qcheck.ps1"),
        (Shell::Elvish, "qcheck.elv"),
    ]
    .into_iter()
    .map(|(shell, name)| {
        let mut text = Vec::new();
        generate(shell, &mut Cli::command(), "qcheck", &mut text);
        let text = String::from_utf8(text).unwrap();
        let text = match shell {
            Shell::Bash => bash(&text),
            Shell::Zsh => zsh(&text),
            Shell::Fish => fish(&text),
            _ => text,
        };
        (Path::new("completions").join(name), text.into_bytes())
    })
    .collect()
}

fn bash(text: &str) -> String {
    let mut sections = text.split_inclusive(SECTION_END).map(bash_section).collect::<String>();
    let locals = "local i cur prev opts cmd";
    sections = sections.replace(locals, &format!("{locals} name"));
    format!("{BASH}{sections}")
}

/// The part of the script for one command: words that do not begin with a dash are files, which
/// bash completes where nothing is offered.
fn bash_section(text: &str) -> String {
    let Some(start) = text.find(SECTION_START) else { return text.to_owned() };
    let command = text[start + SECTION_START.len()..].split(')').next().unwrap();
    if command.starts_with("help") {
        return text.to_owned();
    }
    let mut text = text.replace(" || ${COMP_CWORD} -eq 2 ]]", " ]]");
    let end = text.rfind(BASH_OPTIONS).unwrap();
    text.replace_range(end..end + BASH_OPTIONS.len(), "COMPREPLY=()");
    let options = TAKING_A_SNAPSHOT.iter().filter(|(taker, _)| *taker == command);
    for option in options.flat_map(|(_, options)| *options) {
        let case = |what| format!("                {option})\n                    {what}\n");
        assert!(text.contains(&case(BASH_FILES)), "{command} {option}");
        text = text.replace(&case(BASH_FILES), &case(BASH_SNAPSHOTS));
    }
    text
}

fn zsh(text: &str) -> String {
    // `snapshot -d` takes a name alone, which is how its value is called.
    let takes_one = |line: &str| {
        line.contains(":SNAPSHOT:_default'")
            || line.starts_with("'*-d+[")
            || line.starts_with("'*--delete=[")
    };
    let lines = text.lines().map(|line| match takes_one(line) {
        true => line.replace(":_default'", ":_qcheck_snapshots'"),
        false => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let (head, rest) = text.split_once('\n').unwrap();
    format!("{head}\n{ZSH}{rest}")
}

fn fish(text: &str) -> String {
    let mut text = text.to_owned() + FISH;
    for (command, options) in TAKING_A_SNAPSHOT {
        text += &format!("complete -c qcheck -n \"__fish_qcheck_using_subcommand {command}\"");
        for option in options {
            text += &match option.strip_prefix("--") {
                Some(long) => format!(" -l {long}"),
                None => format!(" -s {}", option.trim_start_matches('-')),
            };
        }
        text += " -x -a \"(__fish_qcheck_snapshots)\"\n";
    }
    text
}
