//! Answers of S3 that are XML. Their length is bounded before they come here.

use crate::backend::{Meta, PAGE, bare_etag};
use crate::error::{Problem, printable};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

#[derive(Debug, PartialEq)]
pub(super) struct Object {
    pub key: String,
    pub meta: Meta,
}

/// ListObjectsV2.
#[derive(Debug, PartialEq)]
pub(super) struct Listing {
    pub objects: Vec<Object>,
    pub next: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ListBucketResult {
    encoding_type: String,
    is_truncated: String,
    next_continuation_token: String,
    contents: Vec<Contents>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Contents {
    key: String,
    size: String,
    #[serde(rename = "ETag")]
    e_tag: String,
    last_modified: String,
}

impl Listing {
    pub fn parse(answer: &[u8]) -> Result<Listing, Problem> {
        let said: ListBucketResult = read(answer, "ListBucketResult")?;
        if said.contents.len() > PAGE {
            return Err(wrong(&format!(
                "a page of {} keys, where {PAGE} were asked for",
                said.contents.len()
            )));
        }
        let objects: Result<Vec<Object>, Problem> = said
            .contents
            .into_iter()
            .map(|object| {
                Ok(Object {
                    meta: Meta {
                        size: object.size.trim().parse().map_err(|_| {
                            wrong(&format!("the size {:?}", printable(&object.size)))
                        })?,
                        etag: Some(bare_etag(object.e_tag.trim())).filter(|etag| !etag.is_empty()),
                        modified: time(&object.last_modified)?,
                    },
                    key: name(&object.key, &said.encoding_type)?,
                })
            })
            .collect();
        let next = match said.is_truncated.trim() {
            "true" if said.next_continuation_token.is_empty() => {
                return Err(wrong("a listing goes on, but does not say where"));
            }
            "true" => Some(said.next_continuation_token),
            _ => None,
        };
        Ok(Listing {
            objects: objects?,
            next,
        })
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct UnfinishedUpload {
    pub key: String,
    pub id: String,
    pub initiated: i64,
}

/// ListMultipartUploads.
#[derive(Debug, PartialEq)]
pub(super) struct Uploads {
    pub uploads: Vec<UnfinishedUpload>,
    /// The key and the upload that the next page goes on after.
    pub next: Option<(String, String)>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ListMultipartUploadsResult {
    encoding_type: String,
    is_truncated: String,
    next_key_marker: String,
    next_upload_id_marker: String,
    upload: Vec<UploadElement>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct UploadElement {
    key: String,
    upload_id: String,
    initiated: String,
}

impl Uploads {
    pub fn parse(answer: &[u8]) -> Result<Uploads, Problem> {
        let said: ListMultipartUploadsResult = read(answer, "ListMultipartUploadsResult")?;
        let uploads: Result<Vec<UnfinishedUpload>, Problem> = said
            .upload
            .into_iter()
            .map(|upload| {
                Ok(UnfinishedUpload {
                    key: name(&upload.key, &said.encoding_type)?,
                    id: upload.upload_id,
                    initiated: time(&upload.initiated)?,
                })
            })
            .collect();
        let next = match said.is_truncated.trim() {
            "true" => Some((
                name(&said.next_key_marker, &said.encoding_type)?,
                said.next_upload_id_marker,
            )),
            _ => None,
        };
        Ok(Uploads {
            uploads: uploads?,
            next,
        })
    }
}

/// Checks the outermost element first: to serde, any other that lacks all fields would be an empty listing.
fn read<'a, T: Deserialize<'a>>(answer: &'a [u8], element: &str) -> Result<T, Problem> {
    let text = std::str::from_utf8(answer).map_err(|_| wrong("an answer that is not UTF-8"))?;
    let mut reader = quick_xml::Reader::from_str(text);
    let outermost = loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Start(start)) => {
                break start.local_name().into_inner() == element.as_bytes();
            }
            Ok(quick_xml::events::Event::Empty(start)) => {
                break start.local_name().into_inner() == element.as_bytes();
            }
            Ok(quick_xml::events::Event::Eof) | Err(_) => break false,
            Ok(_) => {}
        }
    };
    if !outermost {
        return Err(wrong(&format!("an answer that is no {element}")));
    }
    quick_xml::de::from_str(text).map_err(|error| {
        wrong(&format!(
            "a {element} that cannot be read: {}",
            printable(&error.to_string())
        ))
    })
}

fn wrong(what: &str) -> Problem {
    Problem::Nonsense(what.to_owned())
}

fn time(text: &str) -> Result<i64, Problem> {
    let time: jiff::Timestamp = text
        .trim()
        .parse()
        .map_err(|_| wrong(&format!("the time {:?}", printable(text))))?;
    Ok(time.as_millisecond())
}

/// A key as the listing writes it. Asked to, S3 writes keys so that each fits into XML: as in a form, with `+` for spaces.
fn name(text: &str, encoding: &str) -> Result<String, Problem> {
    if encoding.trim() != "url" {
        return Ok(text.to_owned());
    }
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    match decoded {
        Ok(name) => Ok(name.into_owned()),
        Err(_) => Err(wrong(&format!(
            "the key {:?}, which is not UTF-8",
            printable(&text)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_read() {
        let answer = br#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>in/</Prefix><KeyCount>2</KeyCount>
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>
<Contents><Key>in/a+b%2Bc%0A</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;ab&quot;</ETag><Size>5</Size><Owner><ID>x</ID></Owner></Contents>
<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>
<Contents><Key>in/</Key><LastModified>2026-01-02T03:04:05Z</LastModified><Size>0</Size></Contents></ListBucketResult>"#;
        let listing = Listing::parse(answer).unwrap();
        assert_eq!(listing.next.as_deref(), Some("a&b"));
        let [first, marker] = &listing.objects[..] else {
            panic!("{listing:?}")
        };
        assert_eq!(first.key, "in/a b+c\n");
        assert_eq!(
            (first.meta.size, first.meta.etag.as_deref()),
            (5, Some("ab"))
        );
        assert_eq!(first.meta.modified, 1_767_323_045_678);
        assert_eq!((marker.key.as_str(), &marker.meta.etag), ("in/", &None));
    }

    #[test]
    fn uploads_are_read() {
        let answer = br#"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>
<Upload><Key>in/a+b</Key><UploadId>1</UploadId><Initiated>2026-01-02T03:04:05Z</Initiated></Upload></ListMultipartUploadsResult>"#;
        let uploads = Uploads::parse(answer).unwrap();
        assert_eq!(uploads.uploads[0].key, "in/a+b");
        assert_eq!(uploads.next, Some(("k".into(), "u".into())));
    }

    #[test]
    fn other_answers_are_told_from_an_empty_page() {
        assert_eq!(Listing::parse(b"<ListBucketResult/>").unwrap().objects, []);
        let many = format!(
            "<ListBucketResult>{}</ListBucketResult>",
            "<Contents/>".repeat(PAGE + 1)
        );
        let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><ListBucketResult><NextContinuationToken>&b;</NextContinuationToken></ListBucketResult>";
        for bad in [
            "",
            "<html><body>Log in</body></html>",
            "{}",
            "<ListBucketResult>",
            "\u{1}",
            bomb,
            &many,
            "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key><Size>1</Size><LastModified>now</LastModified></Contents></ListBucketResult>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%ff</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents></ListBucketResult>",
        ] {
            assert!(
                matches!(Listing::parse(bad.as_bytes()), Err(Problem::Nonsense(_))),
                "{bad}"
            );
        }
        assert!(Listing::parse(&[0xff, 0xfe]).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "(<(/)?(ListBucketResult|Contents|Key|Size|!--|!\\[CDATA\\[|\\?)>?|&[a-z]+;|[ -~]){0,40}") {
            let _ = Listing::parse(text.as_bytes());
            let _ = Listing::parse(format!("<ListBucketResult>{text}").as_bytes());
            let _ = Uploads::parse(text.as_bytes());
        }
    }
}
