//! What TCP has sent and received on a connected socket, from the `struct tcp_info` of an answer: include/uapi/linux/tcp.h,
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/tcp.h>. It only ever grew at its end.

use super::Bytes;
use crate::socket::{Payload, TcpState};

/// The attribute that holds it.
pub(super) const INET_DIAG_INFO: u8 = 2;
/// Where attributes begin in an answer about an Internet socket.
const ATTRIBUTES: usize = 72;

/// Since Linux 4.1.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
/// Since Linux 4.19.
const BYTES_SENT: usize = 200;
const BYTES_RETRANS: usize = 208;

/// The payload, if the kernel tells.
pub(super) fn payload(body: &Bytes<'_>) -> Option<Payload> {
    let (_, info) = body.attributes(ATTRIBUTES).find(|(kind, _)| *kind == u16::from(INET_DIAG_INFO))?;
    let has_ended =
        matches!(TcpState(info.u8(0)?), TcpState::CLOSE_WAIT | TcpState::LAST_ACK | TcpState::CLOSING);
    Some(Payload {
        sent: sent(&info)?,
        // The peer's FIN counts as a byte.
        received: info.u64(BYTES_RECEIVED)?.saturating_sub(u64::from(has_ended)),
    })
}

/// What was acknowledged counts the client's SYN and an acknowledged FIN; what was sent counts neither, but repetitions and
/// what is on its way. The smaller one is exact once all data is acknowledged, and one too many for a client before: less
/// than it will have sent in any case.
fn sent(info: &Bytes<'_>) -> Option<u64> {
    let acked = info.u64(BYTES_ACKED)?;
    let once =
        info.u64(BYTES_SENT).zip(info.u64(BYTES_RETRANS)).map(|(sent, again)| sent.saturating_sub(again));
    Some(once.map_or(acked, |once| once.min(acked)))
}
