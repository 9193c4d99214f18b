//! Completions: those of clap, and the names of snapshots, which are read from the image.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

/// The options of `snapshot` that take the name of a snapshot that exists.
const TAKING_A_SNAPSHOT: [&str; 4] = ["--apply", "-a", "--delete", "-d"];

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
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s a -l apply -x -a "(__fish_qcheck_snapshots)"
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s d -l delete -x -a "(__fish_qcheck_snapshots)"
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
            Shell::Fish => text + FISH,
            _ => text,
        };
        (Path::new("completions").join(name), text.into_bytes())
    })
    .collect()
}

fn bash(text: &str) -> String {
    let start = text.find("        qcheck__subcmd__snapshot)\n            opts=").unwrap();
    let (before, rest) = text.split_at(start);
    let (snapshot, after) = rest.split_at(rest.find("        qcheck__subcmd__undo)\n").unwrap());
    let mut snapshot = snapshot.to_owned();
    for option in TAKING_A_SNAPSHOT {
        let case = |what| format!("                {option})\n                    {what}\n");
        assert!(snapshot.contains(&case(BASH_FILES)), "{option}");
        snapshot = snapshot.replace(&case(BASH_FILES), &case(BASH_SNAPSHOTS));
    }
    let locals = "local i cur prev opts cmd";
    format!("{BASH}{before}{snapshot}{after}").replace(locals, &format!("{locals} name"))
}

fn zsh(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let takes = |option: &str| {
            ["+[", "=["].iter().any(|mark| line.starts_with(&format!("'*{option}{mark}")))
        };
        match TAKING_A_SNAPSHOT.iter().any(|option| takes(option)) {
            true => line.replace(":_default'", ":_qcheck_snapshots'"),
            false => line.to_owned(),
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let (head, rest) = text.split_once('\n').unwrap();
    format!("{head}\n{ZSH}{rest}")
}
