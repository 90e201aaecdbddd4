//! PTX text to tokens with positions.

use crate::{ParseError, Span};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'t> {
    /// A name: register, label, symbol, opcode. `%` and `$` belong to it.
    Word(&'t str),
    /// A word after a dot, without it: `global`, `shared::cta`.
    Dot(&'t str),
    Int(u64),
    F32(u32),
    F64(u64),
    Text(&'t str),
    Punct(char),
    End,
}

#[derive(Debug, Clone, Copy)]
pub struct Lexeme<'t> {
    pub token: Token<'t>,
    /// Byte offsets, so that an opcode can be cut out with its modifiers.
    pub start: u32,
    pub end: u32,
    pub span: Span,
}

/// How a token reads in a message.
pub fn describe(token: Token<'_>) -> String {
    match token {
        Token::Word(word) => format!("`{}`", clip(word)),
        Token::Dot(word) => format!("`.{}`", clip(word)),
        Token::Int(value) => format!("`{value}`"),
        Token::F32(bits) => format!("`0f{bits:08X}`"),
        Token::F64(bits) => format!("`0d{bits:016X}`"),
        Token::Text(_) => "a string".into(),
        Token::Punct(c) => format!("`{c}`"),
        Token::End => "the end of the text".into(),
    }
}

/// Names in messages are cut, since the text may be hostile.
fn clip(word: &str) -> &str {
    match word.char_indices().nth(60) {
        Some((at, _)) => &word[..at],
        None => word,
    }
}

struct Lexer<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

impl<'t> Lexer<'t> {
    fn span(&self, at: usize) -> Span {
        Span {
            line: self.line,
            column: (at - self.line_start) as u32 + 1,
        }
    }

    fn error(&self, at: usize, message: String) -> ParseError {
        let span = self.span(at);
        ParseError {
            line: span.line,
            column: span.column,
            message,
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn newline(&mut self) {
        self.line += 1;
        self.line_start = self.at + 1;
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            match self.peek(0) {
                b'\n' => {
                    self.newline();
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | 0x0c => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
                        self.at += 1;
                    }
                }
                b'/' if self.peek(1) == b'*' => {
                    let start = self.span(self.at);
                    self.at += 2;
                    while !(self.peek(0) == b'*' && self.peek(1) == b'/') {
                        if self.at >= self.bytes.len() {
                            let message = "this comment has no end".into();
                            return Err(ParseError {
                                line: start.line,
                                column: start.column,
                                message,
                            });
                        }
                        if self.bytes[self.at] == b'\n' {
                            self.newline();
                        }
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn run(&mut self, keep: impl Fn(u8) -> bool) -> &'t str {
        let start = self.at;
        while self.at < self.bytes.len() && keep(self.bytes[self.at]) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn number(&mut self) -> Result<Token<'t>, ParseError> {
        let start = self.at;
        let word = self.run(|byte| byte.is_ascii_alphanumeric());
        let bad = |lexer: &Self, what: &str| {
            Err(lexer.error(start, format!("`{}` is {what}", clip(word))))
        };
        if let [b'0', kind, digits @ ..] = word.as_bytes() {
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = &word[2..];
            match kind {
                b'f' | b'F' if digits.len() == 8 && hex => {
                    return Ok(Token::F32(u32::from_str_radix(digits, 16).unwrap_or(0)));
                }
                b'd' | b'D' if digits.len() == 16 && hex => {
                    return Ok(Token::F64(u64::from_str_radix(digits, 16).unwrap_or(0)));
                }
                b'f' | b'F' | b'd' | b'D' => {
                    return bad(self, "no float: 0f takes 8 hexadecimal digits, 0d takes 16");
                }
                _ => {}
            }
        }
        // A decimal float: 1.5, 1e-3.
        let exponent = word.ends_with(['e', 'E'])
            && word[..word.len() - 1].bytes().all(|b| b.is_ascii_digit());
        let fraction = self.peek(0) == b'.' && self.peek(1).is_ascii_digit();
        if word.bytes().all(|byte| byte.is_ascii_digit()) && fraction
            || exponent && matches!(self.peek(0), b'+' | b'-')
        {
            if fraction {
                self.at += 1;
                self.run(|byte| byte.is_ascii_digit());
            }
            if fraction && matches!(self.peek(0), b'e' | b'E') {
                self.at += 1;
            }
            if matches!(self.bytes[self.at - 1], b'e' | b'E') {
                if matches!(self.peek(0), b'+' | b'-') {
                    self.at += 1;
                }
                self.run(|byte| byte.is_ascii_digit());
            }
            return match self.text[start..self.at].parse::<f64>() {
                Ok(value) => Ok(Token::F64(value.to_bits())),
                Err(_) => bad(self, "no number"),
            };
        }
        let digits = word.strip_suffix(['U', 'u']).unwrap_or(word);
        let parsed = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            u64::from_str_radix(hex, 16)
        } else if let Some(binary) = digits.strip_prefix("0b").or(digits.strip_prefix("0B")) {
            u64::from_str_radix(binary, 2)
        } else if digits.len() > 1 && digits.starts_with('0') {
            u64::from_str_radix(&digits[1..], 8)
        } else {
            digits.parse()
        };
        match parsed {
            Ok(value) => Ok(Token::Int(value)),
            Err(_) => bad(self, "no integer of 64 bits"),
        }
    }

    fn token(&mut self) -> Result<Token<'t>, ParseError> {
        let start = self.at;
        let byte = self.peek(0);
        if self.at >= self.bytes.len() {
            return Ok(Token::End);
        }
        match byte {
            b'0'..=b'9' => self.number(),
            b'.' => {
                self.at += 1;
                let from = self.at;
                self.run(is_word);
                while self.peek(0) == b':' && self.peek(1) == b':' && is_word(self.peek(2)) {
                    self.at += 2;
                    self.run(is_word);
                }
                if self.at == from {
                    return Err(self.error(start, "a word must follow the dot".into()));
                }
                Ok(Token::Dot(&self.text[from..self.at]))
            }
            b'"' => {
                self.at += 1;
                let body = self.run(|byte| byte != b'"' && byte != b'\n');
                if self.peek(0) != b'"' {
                    return Err(self.error(start, "this string has no end".into()));
                }
                self.at += 1;
                Ok(Token::Text(body))
            }
            _ if is_word(byte) => Ok(Token::Word(self.run(is_word))),
            b'{' | b'}' | b'[' | b']' | b'(' | b')' | b'<' | b'>' | b',' | b';' | b':' | b'@'
            | b'!' | b'+' | b'-' | b'=' | b'|' | b'*' | b'/' | b'&' | b'~' | b'^' | b'?' => {
                self.at += 1;
                Ok(Token::Punct(byte as char))
            }
            _ => {
                let found = self.text[start..].chars().next().unwrap_or('?');
                Err(self.error(start, format!("{found:?} does not belong into PTX")))
            }
        }
    }
}

/// All tokens; the last one is [`Token::End`].
pub fn tokens(text: &str) -> Result<Vec<Lexeme<'_>>, ParseError> {
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
        line_start: 0,
    };
    let mut all = Vec::with_capacity(text.len() / 4);
    loop {
        lexer.skip_blanks()?;
        let (start, span) = (lexer.at as u32, lexer.span(lexer.at));
        let token = lexer.token()?;
        all.push(Lexeme {
            token,
            start,
            end: lexer.at as u32,
            span,
        });
        if token == Token::End {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        let all =
            tokens("12 0x1F 017 0b101 7U 0f3F800000 0d3FF0000000000000 1.5 2e-1 9.5").unwrap();
        let wanted = [
            Token::Int(12),
            Token::Int(31),
            Token::Int(15),
            Token::Int(5),
            Token::Int(7),
            Token::F32(0x3f80_0000),
            Token::F64(1f64.to_bits()),
            Token::F64(1.5f64.to_bits()),
            Token::F64(0.2f64.to_bits()),
            Token::F64(9.5f64.to_bits()),
            Token::End,
        ];
        assert_eq!(
            all.iter().map(|lexeme| lexeme.token).collect::<Vec<_>>(),
            wanted
        );
    }

    #[test]
    fn says_where_it_went_wrong() {
        let error = tokens("// fine\n  mov.u32 \u{e9}").unwrap_err();
        assert_eq!((error.line, error.column), (2, 11));
        assert!(tokens("0f123").is_err());
        assert!(tokens("/* open").is_err());
        assert!(tokens("\"open").is_err());
        assert!(tokens("99999999999999999999").is_err());
    }
}
