//! Media types, as far as events need them.

/// A media type that has the form of one.
pub(super) struct MediaType {
    /// `type/subtype`, in small letters.
    essence: String,
    /// In small letters, without quotes.
    charset: Option<String>,
}

impl MediaType {
    pub fn parse(text: &str) -> Option<MediaType> {
        let mut parts = text.split(';');
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        let token = |text: &str| {
            let right =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+%*'`|~".contains(&byte);
            !text.is_empty() && text.bytes().all(right)
        };
        if !token(kind) || !token(subtype) {
            return None;
        }
        let charset = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        Some(MediaType { essence, charset })
    }

    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// Whether the subtype is `json` or ends with `+json`.
    pub fn is_json(&self) -> bool {
        let subtype = self
            .essence
            .split_once('/')
            .map_or("", |(_, subtype)| subtype);
        subtype == "json" || subtype.ends_with("+json")
    }

    /// Whether text of this type is UTF-8.
    pub fn is_utf8(&self) -> bool {
        let charset = self.charset.as_deref();
        charset.is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let json = MediaType::parse("Application/Vnd.X+JSON; a=b; CharSet=\"UTF-8\"").unwrap();
        assert_eq!(json.essence(), "application/vnd.x+json");
        assert!(json.is_json() && json.is_utf8());
        assert!(MediaType::parse("text/json").unwrap().is_json());
        assert!(!MediaType::parse("application/jsonx").unwrap().is_json());
        assert!(
            !MediaType::parse("text/xml;charset=latin1")
                .unwrap()
                .is_utf8()
        );
        for bad in [
            "",
            "text",
            "/x",
            "text/",
            "te xt/x",
            "text/x/y",
            "text/\u{fc}",
        ] {
            assert!(MediaType::parse(bad).is_none(), "{bad}");
        }
    }
}
