//! Texts as JSON strings, as fast as they are mostly plain.

/// Appends a text as JSON.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    // Nothing to escape is the rule; the library's escaping is the exception. Without a way out in
    // the middle, the compiler looks at many bytes at once.
    let is_plain = text.bytes().fold(true, |is_plain, byte| {
        is_plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\')
    });
    if is_plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Neither writing to a Vec nor serialising a text can fail.
        let _ = serde_json::to_writer(out, text);
    }
}
