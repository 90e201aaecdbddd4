//! Ids of handles. Kind and number are their maker's own; what both sides know is who made one, and which of its servers the client means.

/// Ids that the server makes have this bit, and the client's do not.
pub const BY_SERVER: u64 = 1 << 47;
/// By these bits a client that uses several servers tells their ids apart; the server's ids have them as the client's own have.
pub const MARK: u64 = 0x7f << MARK_SHIFT;
/// Where the mark's bits begin.
pub const MARK_SHIFT: u32 = 40;
