//! `netsnoop doctor`: what this kernel and these privileges allow, rung by rung, and the remedy for what they do not.
