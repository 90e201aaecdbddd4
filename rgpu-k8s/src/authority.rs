//! Connections of kubelets before 1.26.
//!
//! They name the socket's path as `:authority`, which is none by HTTP's rules, and the HTTP/2 library here refuses such requests. So the first value
//! of each connection is replaced before the library sees it, by letters of the same number: header tables, which both ends keep by the sizes of what
//! is in them, stay alike. Nobody reads the value. Whatever is not understood goes on as it came, for the library to judge.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream.
const HEAD: usize = 9;
/// Longest frame that a client may send unless it is told otherwise, in bytes.
const MAX_FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;
/// How many symbols HPACK's Huffman code has of each length in bits. It is canonical, so this tells where a symbol ends.
const CODES: [u32; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19,
    29, 0, 4,
];

/// The bytes of a connection, as they come. Pure.
#[derive(Debug, Default)]
pub struct Mender {
    /// What has come and cannot be judged yet: at most one frame.
    waiting: Vec<u8>,
    is_greeted: bool,
    /// Bytes of a frame that is none of ours to look at.
    passing: usize,
    /// Nothing is looked at any more.
    is_through: bool,
}

impl Mender {
    /// Takes bytes, and appends to `out` what may go on.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if self.is_through {
            out.extend_from_slice(input);
            return;
        }
        self.waiting.extend_from_slice(input);
        while let Some(length) = self.next(out) {
            self.waiting.drain(..length);
        }
        if self.is_through {
            out.append(&mut self.waiting);
        }
    }

    /// Takes one step; returns how many bytes of those that wait are done. None: more must come, or none will be looked at.
    fn next(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        let waiting = &self.waiting[..];
        if self.passing > 0 {
            let length = self.passing.min(waiting.len());
            out.extend_from_slice(&waiting[..length]);
            self.passing -= length;
            return (length > 0).then_some(length);
        }
        if !self.is_greeted {
            let known = waiting.len().min(PREFACE.len());
            if waiting[..known] != PREFACE[..known] {
                self.is_through = true;
            } else if known == PREFACE.len() {
                self.is_greeted = true;
                out.extend_from_slice(PREFACE);
                return Some(known);
            }
            return None;
        }
        let head = waiting.get(..HEAD)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[3] != HEADERS {
            out.extend_from_slice(head);
            self.passing = length;
            return Some(HEAD);
        }
        if length > MAX_FRAME {
            self.is_through = true;
            return None;
        }
        let frame = waiting.get(..HEAD + length)?;
        match mended(frame[4], &frame[HEAD..]) {
            Some(payload) => {
                let bytes = (payload.len() as u32).to_be_bytes();
                out.extend_from_slice(&bytes[1..]);
                out.extend_from_slice(&frame[3..HEAD]);
                out.extend_from_slice(&payload);
            }
            None => out.extend_from_slice(frame),
        }
        Some(HEAD + length)
    }
}

/// The payload of a HEADERS frame with another `:authority`; None where it is to stay as it is.
fn mended(flags: u8, payload: &[u8]) -> Option<Vec<u8>> {
    if flags & END_HEADERS == 0 {
        return None;
    }
    let (mut start, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let value = authority(payload.get(start..end)?)?;
    let (from, to) = (start + value.from, start + value.to);
    let mut text = payload[..from].to_vec();
    write_length(value.length, &mut text);
    text.resize(text.len() + value.length, b'a');
    text.extend_from_slice(&payload[to..]);
    (text.len() <= MAX_FRAME).then_some(text)
}

/// A string in a block of headers.
struct Value {
    /// Where it stands, with the length before it.
    from: usize,
    to: usize,
    /// Decoded.
    length: usize,
}

/// Where a block says `:authority` in so many letters, and not by a number.
fn authority(block: &[u8]) -> Option<Value> {
    let mut at = 0;
    while at < block.len() {
        let first = block[at];
        // An entry of a table, or the size of the table.
        if first & 0x80 != 0 || first & 0xe0 == 0x20 {
            let bits = if first & 0x80 != 0 { 7 } else { 5 };
            at = integer(block, at, bits)?.1;
            continue;
        }
        let bits = if first & 0x40 != 0 { 6 } else { 4 };
        let (name, next) = integer(block, at, bits)?;
        at = next;
        if name == 0 {
            at = string(block, at)?.to;
        }
        let value = string(block, at)?;
        if name == AUTHORITY {
            return Some(value);
        }
        at = value.to;
    }
    None
}

/// A number whose first byte has `bits` of it; and what follows it.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1usize << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut next = at + 1;
    if value < most {
        return Some((value, next));
    }
    for shift in [0, 7, 14] {
        let byte = *block.get(next)?;
        next += 1;
        value += (usize::from(byte) & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, next));
        }
    }
    None
}

fn string(block: &[u8], at: usize) -> Option<Value> {
    let is_coded = block.get(at)? & 0x80 != 0;
    let (length, start) = integer(block, at, 7)?;
    let bytes = block.get(start..start.checked_add(length)?)?;
    Some(Value {
        from: at,
        to: start + length,
        length: match is_coded {
            true => symbols(bytes)?,
            false => length,
        },
    })
}

/// How many characters a Huffman-coded string has.
fn symbols(bytes: &[u8]) -> Option<usize> {
    let (mut count, mut code, mut first, mut length) = (0, 0u32, 0u32, 0usize);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        length += 1;
        code = code << 1 | u32::from(bit);
        first <<= 1;
        let codes = *CODES.get(length)?;
        if code - first < codes {
            count += 1;
            (code, first, length) = (0, 0, 0);
        } else {
            first += codes;
        }
    }
    Some(count)
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    // Not coded: the first bit is 0.
    if length < 127 {
        out.push(length as u8);
        return;
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A connection whose reader sees what a [`Mender`] lets go on.
#[derive(Debug)]
pub struct Mended<S> {
    inner: S,
    mender: Mender,
    ready: Vec<u8>,
}

impl<S> Mended<S> {
    pub fn new(inner: S) -> Mended<S> {
        Mended {
            inner,
            mender: Mender::default(),
            ready: Vec::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.ready.is_empty() {
            let mut bytes = [0u8; 4096];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.mender.push(read.filled(), &mut this.ready);
        }
        let length = this.ready.len().min(buffer.remaining());
        buffer.put_slice(&this.ready[..length]);
        this.ready.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S> Connected for Mended<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.4.1: `www.example.com`, Huffman-coded.
    const CODED: [u8; 12] = [
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// The same, whatever pieces it comes in.
    fn mend(input: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        Mender::default().push(input, &mut whole);
        for size in [1, 7, 100] {
            let (mut mender, mut out) = (Mender::default(), Vec::new());
            for piece in input.chunks(size) {
                mender.push(piece, &mut out);
            }
            assert_eq!(out, whole);
        }
        whole
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [PREFACE, &frames.concat()].concat()
    }

    #[test]
    fn symbols_are_counted_as_the_rfc_codes_them() {
        assert_eq!(symbols(&CODED), Some(15));
        // C.4.2 and C.4.3: `no-cache`, `custom-value`.
        assert_eq!(symbols(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]), Some(8));
        let value = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
        assert_eq!(symbols(&value), Some(12));
        // C.6.1: a date, with characters of 6 and 7 bits.
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
            0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(symbols(&date), Some("Mon, 21 Oct 2013 20:13:21 GMT".len()));
        let sum: u32 = CODES.iter().sum();
        assert_eq!(sum, 257);
    }

    #[test]
    fn a_path_becomes_letters_of_its_length() {
        let path = b"/var/lib/kubelet/device-plugins/a.sock";
        let before = [0x83, 0x86, 0x40, 1, b'x', 1, b'y'];
        let plain = [&before[..], &[0x41, path.len() as u8], path, &[0x84]].concat();
        let coded = [
            &before[..],
            &[0x41, 0x80 | CODED.len() as u8],
            &CODED,
            &[0x84],
        ]
        .concat();
        for (block, length) in [(plain, path.len()), (coded, 15)] {
            let letters = vec![b'a'; length];
            let wanted = [&before[..], &[0x41, length as u8], &letters, &[0x84]].concat();
            let other = frame(0, 0, b"/var/lib is data");
            let given = connection(&[frame(4, 0, &[]), frame(1, 4, &block), other.clone()]);
            let wanted = connection(&[frame(4, 0, &[]), frame(1, 4, &wanted), other]);
            assert_eq!(mend(&given), wanted);
        }
    }

    #[test]
    fn long_paths_padding_and_priority() {
        let path = [b'/'; 300];
        let mut length = Vec::new();
        write_length(300, &mut length);
        assert_eq!(integer(&length, 0, 7), Some((300, 3)));
        let payload = |text: u8| {
            [
                &[2, 0, 0, 0, 0, 9, 0x01][..],
                &length,
                &path.map(|_| text),
                &[0, 0],
            ]
            .concat()
        };
        let given = connection(&[frame(1, 4 | 8 | 0x20, &payload(b'/'))]);
        assert_eq!(
            mend(&given),
            connection(&[frame(1, 4 | 8 | 0x20, &payload(b'a'))])
        );
    }

    #[test]
    fn what_is_not_understood_goes_on_as_it_came() {
        let unfinished = frame(1, 0, &[0x41, 1, b'/']);
        let broken = frame(1, 4, &[0x41, 9, b'/']);
        let endless = frame(1, 4, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let padded = frame(1, 4 | 8, &[200, 1]);
        for given in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            connection(&[unfinished, broken, endless, padded]),
            connection(&[
                frame(1, 4, &vec![0x82; 20_000]),
                frame(1, 4, &[0x41, 1, b'/']),
            ]),
        ] {
            assert_eq!(mend(&given), given);
        }
    }
}
