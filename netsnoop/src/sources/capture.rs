//! Packets from libpcap.
