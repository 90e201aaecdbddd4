//! Who may do what: one table, which the documentation shows too. Pure.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a person may do; the later ones may more of what changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks at everybody's functions and jobs and changes nothing.
    Viewer,
    /// Has functions, jobs and files.
    User,
    Administrator,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::User => "user",
            Role::Administrator => "administrator",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Viewer, Role::User, Role::Administrator]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("{text:?} is no role; write administrator, user or viewer"))
    }
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Who shows the server's own token or, where no credentials are configured, the user whose process the server is.
    Operator,
    /// Somebody else on this machine, where no credentials are configured.
    Onlooker,
    /// A name of the users file, or `ISSUER:NAME` from an OIDC token: no name of one kind can be one of another.
    Person { name: Arc<str>, role: Role },
    /// Who shows the token of this function.
    Function(Arc<str>),
}

impl Principal {
    /// Under which name what it makes is kept; the operator has none.
    pub fn name(&self) -> Option<&str> {
        match self {
            Principal::Person { name, .. } => Some(name),
            _ => None,
        }
    }

    /// None for a function's token, which is not a person's.
    pub fn role(&self) -> Option<Role> {
        match self {
            Principal::Operator => Some(Role::Administrator),
            Principal::Onlooker => Some(Role::Viewer),
            Principal::Person { role, .. } => Some(*role),
            Principal::Function(_) => None,
        }
    }

    pub fn is_administrator(&self) -> bool {
        self.role() == Some(Role::Administrator)
    }

    fn column(&self) -> usize {
        match self.role() {
            Some(Role::Administrator) => 0,
            Some(Role::User) => 1,
            Some(Role::Viewer) => 2,
            None => 3,
        }
    }
}

/// For logs.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Operator => f.write_str("the operator"),
            Principal::Onlooker => f.write_str("another user of this machine"),
            Principal::Person { name, role } => write!(f, "{name} ({})", role.name()),
            Principal::Function(name) => write!(f, "the token of {name}"),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    FunctionList,
    FunctionRead,
    FunctionWrite,
    FunctionDelete,
    FunctionInvoke,
    TokenWrite,
    JobList,
    JobRead,
    JobResult,
    JobReplay,
    JobCancel,
    JobDelete,
    LogRead,
    FileList,
    FileRead,
    FileWrite,
    FileDelete,
    SelfRead,
    SystemRead,
    SystemWrite,
}

/// What the table says about an action and a kind of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    All,
    Own,
    No,
}

use Grant::{All, No, Own};

/// One line of the table: administrator, user, viewer, a function's token.
type Line = (Action, &'static str, &'static str, [Grant; 4]);

/// Everything that may be done, and by whom.
#[rustfmt::skip]
pub const TABLE: [Line; 20] = [
    (Action::FunctionList, "function.list", "list functions", [All, Own, All, No]),
    (Action::FunctionRead, "function.read", "see a function's definition", [All, Own, All, No]),
    (Action::FunctionWrite, "function.write", "make or change a function", [All, Own, No, No]),
    (Action::FunctionDelete, "function.delete", "remove a function", [All, Own, No, No]),
    (Action::FunctionInvoke, "function.invoke", "`/job`, `/run`, events for a function", [All, Own, No, Own]),
    (Action::TokenWrite, "token.write", "make a function's token anew, or revoke it", [All, Own, No, No]),
    (Action::JobList, "job.list", "list jobs", [All, Own, All, No]),
    (Action::JobRead, "job.read", "see a job's state, or wait for it", [All, Own, All, Own]),
    (Action::JobResult, "job.result", "get what a call's job has made, as `/run` answers it", [All, Own, No, Own]),
    (Action::JobReplay, "job.replay", "have a dead letter done again, or give it up", [All, Own, No, No]),
    (Action::JobCancel, "job.cancel", "cancel a job", [All, Own, No, No]),
    (Action::JobDelete, "job.delete", "delete ended jobs and their logs", [All, Own, No, No]),
    (Action::LogRead, "log.read", "read what a job has printed", [All, Own, All, No]),
    (Action::FileList, "file.list", "list stored files", [All, Own, No, No]),
    (Action::FileRead, "file.read", "download a stored file", [All, Own, No, No]),
    (Action::FileWrite, "file.write", "upload a file", [All, Own, No, No]),
    (Action::FileDelete, "file.delete", "delete a stored file", [All, Own, No, No]),
    (Action::SelfRead, "self.read", "who one is; log out; the server's version and kind", [All, All, All, No]),
    (Action::SystemRead, "system.read", "metrics, configuration, state of the server", [All, No, All, No]),
    (Action::SystemWrite, "system.write", "everything that is not in this table", [All, No, No, No]),
];

impl Action {
    fn line(self) -> Option<&'static Line> {
        TABLE.iter().find(|line| line.0 == self)
    }

    /// For logs and answers.
    pub fn name(self) -> &'static str {
        self.line().map_or("unknown", |line| line.1)
    }
}

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// All of a kind, or one that is yet to be made: whoever may do it to their own may ask, and whoever answers shows or makes
    /// only theirs.
    Several,
    /// One thing: a function, or what belongs to it, or a file. Without an owner it is the operator's.
    One {
        owner: Option<&'a str>,
        function: Option<&'a str>,
    },
}

impl Resource<'_> {
    fn is_of(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (Resource::Several, _) => true,
            (Resource::One { owner, .. }, Principal::Person { name, .. }) => {
                *owner == Some(&**name)
            }
            (Resource::One { function, .. }, Principal::Function(name)) => {
                *function == Some(&**name)
            }
            (Resource::One { .. }, Principal::Operator | Principal::Onlooker) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny { why: String },
}

/// Whether this principal may do that.
pub fn decide(principal: &Principal, action: Action, resource: &Resource<'_>) -> Decision {
    // An action that is not in the table is nobody's.
    let grant = action
        .line()
        .map_or(Grant::No, |line| line.3[principal.column()]);
    let why = match grant {
        Grant::All => return Decision::Allow,
        Grant::Own if resource.is_of(principal) => return Decision::Allow,
        // Whether it exists is not the caller's business either.
        Grant::Own => match principal {
            Principal::Function(name) => format!("this token is for the function {name} alone"),
            _ => "it is not yours, or does not exist; ask its owner or an administrator".into(),
        },
        Grant::No => {
            let who = match principal {
                Principal::Function(_) => "a function's token".to_owned(),
                other => {
                    let role = other.role().map_or("nobody", Role::name);
                    format!("the role {role}")
                }
            };
            format!(
                "{who} does not include {}; log in as somebody whose role does",
                action.name()
            )
        }
    };
    Decision::Deny { why }
}

/// Whether lists may show this principal what belongs to `owner`.
pub fn sees(principal: &Principal, action: Action, owner: Option<&str>) -> bool {
    let resource = Resource::One {
        owner,
        function: None,
    };
    decide(principal, action, &resource) == Decision::Allow
}

/// The table as the documentation has it.
pub fn table() -> String {
    let mut text = String::from(
        "| action | | administrator | user | viewer | a function's token |\n|---|---|---|---|---|---|\n",
    );
    for (_, name, about, grants) in &TABLE {
        let cells = grants.map(|grant| match grant {
            Grant::All => "all",
            Grant::Own => "own",
            Grant::No => "–",
        });
        text += &format!("| `{name}` | {about} | {} |\n", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, role: Role) -> Principal {
        Principal::Person {
            name: name.into(),
            role,
        }
    }

    fn one<'a>(owner: Option<&'a str>, function: &'a str) -> Resource<'a> {
        Resource::One {
            owner,
            function: Some(function),
        }
    }

    fn may(principal: &Principal, action: Action, resource: &Resource<'_>) -> bool {
        decide(principal, action, resource) == Decision::Allow
    }

    #[test]
    fn every_line_of_the_table_is_what_decide_does() {
        let cases = [
            (person("ann", Role::Administrator), 0),
            (person("ann", Role::User), 1),
            (person("ann", Role::Viewer), 2),
            (Principal::Function("f".into()), 3),
        ];
        for (action, name, _, grants) in &TABLE {
            for (principal, column) in &cases {
                let own = may(principal, *action, &one(Some("ann"), "f"));
                let other = may(principal, *action, &one(Some("bob"), "g"));
                let nobodys = may(principal, *action, &one(None, "g"));
                let expected = match grants[*column] {
                    Grant::All => (true, true, true),
                    Grant::Own => (true, false, false),
                    Grant::No => (false, false, false),
                };
                assert_eq!((own, other, nobodys), expected, "{name} {principal}");
            }
        }
    }

    #[test]
    fn every_action_has_one_line_and_the_documentation_has_them_all() {
        for (index, line) in TABLE.iter().enumerate() {
            assert_eq!(line.0 as usize, index, "{}", line.1);
            assert_eq!(line.0.name(), line.1);
        }
        // The last of the enumeration: one that is added after it has no line.
        assert_eq!(Action::SystemWrite as usize, TABLE.len() - 1);
        let documentation = include_str!("../../../docs/faas-access.md");
        assert!(documentation.contains(&table()), "{}", table());
    }

    #[test]
    fn the_operator_is_an_administrator_and_the_onlooker_a_viewer() {
        for (action, name, _, grants) in &TABLE {
            let thing = one(Some("ann"), "f");
            let operator = may(&Principal::Operator, *action, &thing);
            let onlooker = may(&Principal::Onlooker, *action, &thing);
            assert!(operator, "{name}");
            assert_eq!(onlooker, grants[2] == Grant::All, "{name}");
        }
    }

    #[test]
    fn names_are_compared_whole_and_by_kind() {
        let ann = person("ann", Role::User);
        for other in ["Ann", "ann ", "anna", "oidc:ann", ""] {
            assert!(!may(&ann, Action::JobRead, &one(Some(other), "f")));
        }
        // A function of a person's name, and a person of a function's.
        let token = Principal::Function("ann".into());
        assert!(!may(&token, Action::FunctionInvoke, &one(Some("ann"), "f")));
        assert!(!may(&ann, Action::FunctionInvoke, &one(None, "ann")));
        let by_token = Principal::Function("f".into());
        let nameless = Resource::One {
            owner: None,
            function: None,
        };
        assert!(!may(&by_token, Action::FunctionInvoke, &nameless));
    }

    #[test]
    fn what_is_denied_says_why_and_not_whether_it_exists() {
        let ann = person("ann", Role::User);
        let why = |owner| match decide(&ann, Action::JobRead, &one(owner, "f")) {
            Decision::Deny { why } => why,
            Decision::Allow => panic!("allowed"),
        };
        assert_eq!(why(Some("bob")), why(None));
        let viewer = person("v", Role::Viewer);
        let denied = decide(&viewer, Action::JobCancel, &Resource::Several);
        assert!(
            matches!(&denied, Decision::Deny { why } if why.contains("viewer") && why.contains("job.cancel")),
            "{denied:?}"
        );
    }

    #[test]
    fn lists_show_what_may_be_seen() {
        let (ann, viewer) = (person("ann", Role::User), person("v", Role::Viewer));
        assert!(sees(&ann, Action::JobList, Some("ann")));
        assert!(!sees(&ann, Action::JobList, Some("bob")) && !sees(&ann, Action::JobList, None));
        assert!(sees(&viewer, Action::JobList, Some("bob")));
        assert!(!sees(
            &Principal::Function("f".into()),
            Action::JobList,
            None
        ));
    }
}
