//! Man pages and shell completions of a program, from its command line as clap knows it, in the folders where systems look for them.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};

/// Fills `share`, as /usr/share: `man/man1`, and a folder for each shell's completions.
///
/// # Errors
/// Those of the file system.
pub fn write(command: Command, share: &Path) -> io::Result<()> {
    let man = share.join("man/man1");
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(command.clone(), &man)?;
    let command = visible(&command);
    for (shell, folder, file) in [
        (Shell::Bash, "bash-completion/completions", "{}"),
        (Shell::Zsh, "zsh/site-functions", "_{}"),
        (Shell::Fish, "fish/vendor_completions.d", "{}.fish"),
    ] {
        let folder = share.join(folder);
        fs::create_dir_all(&folder)?;
        let mut command = command.clone();
        let name = command.get_name().to_owned();
        let mut text = Vec::new();
        generate(shell, &mut command, &name, &mut text);
        fs::write(folder.join(file.replace("{}", &name)), text)?;
    }
    Ok(())
}

/// The command without its hidden subcommands, which completions would offer all the same. What it does with arguments does not matter to them.
fn visible(command: &Command) -> Command {
    // Names are static to clap; a release is made once.
    let name: &'static str = Box::leak(command.get_name().to_owned().into_boxed_str());
    let version = command
        .get_version()
        .map(|version| -> &'static str { Box::leak(version.to_owned().into_boxed_str()) });
    let mut shown = Command::new(name)
        .disable_help_flag(command.is_disable_help_flag_set())
        .disable_help_subcommand(command.is_disable_help_subcommand_set())
        .args(command.get_arguments().cloned())
        .groups(command.get_groups().cloned())
        .subcommands(
            command
                .get_subcommands()
                .filter(|it| !it.is_hide_set())
                .cloned(),
        );
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    match version {
        Some(version) => shown.version(version),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn pages_say_what_the_program_takes() {
        let folder = tempfile::tempdir().unwrap();
        let run = Command::new("run").arg(Arg::new("there").long("there"));
        let hidden = Command::new("secret").hide(true);
        let command = Command::new("tool").subcommand(run).subcommand(hidden);
        write(command, folder.path()).unwrap();
        for (file, says) in [
            ("man/man1/tool.1", "tool\\-run"),
            ("man/man1/tool-run.1", "\\-\\-there"),
            ("bash-completion/completions/tool", "--there"),
            ("zsh/site-functions/_tool", "--there"),
            ("fish/vendor_completions.d/tool.fish", "there"),
        ] {
            let text = fs::read_to_string(folder.path().join(file)).unwrap();
            assert!(text.contains(says), "{file}: {text}");
            assert!(!text.contains("secret"), "{file}: {text}");
        }
        assert!(!folder.path().join("man/man1/tool-secret.1").exists());
    }
}
