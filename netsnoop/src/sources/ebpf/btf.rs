//! Where the running kernel keeps the struct members that the kernel half reads, from the BTF the
//! kernel carries (`/sys/kernel/btf/vmlinux`, since Linux 5.4 with CONFIG_DEBUG_INFO_BTF).
//!
//! A reader of its own, because it needs one pass over the types where a general one builds them all.
//! It answers offsets, and of functions that they exist and how many arguments they take: sizes, enums and types are left out. The bytes
//! are an argument and may be anything; what cannot be read is an error or an absent answer.

use std::collections::HashMap;

use thiserror::Error;

/// Where the kernel shows its BTF.
pub const KERNEL_BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const TYPE_HEADER_LEN: usize = 12;
const MEMBER_LEN: usize = 12;
/// Kernels' types take 30 bytes each, all in all; so there is always room for as many as there are.
const TYPE_BYTES_MEAN: usize = 16;
/// Members of anonymous structs, typedefs and qualifiers are followed this deep; the kernel nests four.
const NESTING_LIMIT: u32 = 16;

/// The kinds told apart here (include/uapi/linux/btf.h,
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/btf.h#L56-L80>).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why BTF bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BtfError {
    /// Not BTF of this machine's byte order.
    #[error("no BTF magic at its start")]
    Magic,
    /// A section reaches past the end.
    #[error("the {section} section ends at byte {end}, after the last one ({length})")]
    Section {
        /// Which section.
        section: &'static str,
        /// Where it says it ends.
        end: u64,
        /// How many bytes there are.
        length: usize,
    },
    /// A type reaches past the end of its section.
    #[error("the type at byte {offset} is cut short")]
    Truncated {
        /// Where the type begins, counted from the start of the type section.
        offset: usize,
    },
    /// A kind of type whose length is not known, so the next type cannot be found.
    #[error("unknown kind of type {kind} at byte {offset}")]
    Kind {
        /// The kind's number.
        kind: u32,
        /// Where the type begins, counted from the start of the type section.
        offset: usize,
    },
}

/// The types of a kernel.
#[derive(Debug)]
pub struct KernelTypes<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; type id 1 is the first (0 is void).
    starts: Vec<u32>,
    /// The ids of all structs and unions.
    composites: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: usize,
    /// Members pack a bit-field size into the upper byte of their offset.
    packs_bitfields: bool,
    /// A size or the id of another type, depending on the kind.
    target: u32,
}

struct Member {
    name: u32,
    type_id: u32,
    offset_bits: u32,
}

impl<'a> KernelTypes<'a> {
    /// Reads `bytes`, the content of [`KERNEL_BTF_PATH`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let word = |at| u32_at(bytes, at).ok_or(BtfError::Magic);
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Magic);
        }
        let base = word(4)?;
        let types = section(bytes, "type", (base, word(8)?, word(12)?))?;
        let strings = section(bytes, "string", (base, word(16)?, word(20)?))?;
        let mut this = Self {
            types,
            strings,
            starts: Vec::with_capacity(types.len() / TYPE_BYTES_MEAN),
            composites: Vec::new(),
        };
        this.starts.push(u32::MAX);
        this.index()?;
        Ok(this)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut offset = 0;
        while offset < self.types.len() {
            let this = self.header_at(offset).ok_or(BtfError::Truncated { offset })?;
            let length = this.encoded_len().ok_or(BtfError::Kind { kind: this.kind, offset })?;
            let end = offset.saturating_add(length);
            if end > self.types.len() {
                return Err(BtfError::Truncated { offset });
            }
            if matches!(this.kind, kind::STRUCT | kind::UNION) && this.name != 0 {
                // A type is at least 12 bytes and the section's length is 32 bits wide: the count fits.
                self.composites.push(u32::try_from(self.starts.len()).unwrap_or(u32::MAX));
            }
            // As above.
            self.starts.push(u32::try_from(offset).unwrap_or(u32::MAX));
            offset = end;
        }
        Ok(())
    }

    /// The byte offset of the member that `path` names, dots between, in struct or union `composite`.
    /// Members of anonymous structs and unions are found by their bare name.
    pub fn offset_of(&self, composite: &str, path: &str) -> Option<u32> {
        let [offset] = self.offsets_of([(composite, path)]);
        offset
    }

    /// [`Self::offset_of`] each of these pairs, at the cost of one pass over the names of all structs.
    pub fn offsets_of<const N: usize>(&self, fields: [(&str, &str); N]) -> [Option<u32>; N] {
        let mut candidates: HashMap<&[u8], Vec<u32>> =
            fields.iter().map(|(composite, _)| (composite.as_bytes(), Vec::new())).collect();
        for id in &self.composites {
            let name = self.type_of(*id).and_then(|this| self.name(this.name));
            if let Some(ids) = name.and_then(|name| candidates.get_mut(name)) {
                ids.push(*id);
            }
        }
        fields.map(|(composite, path)| {
            let ids = candidates.get(composite.as_bytes())?;
            ids.iter().find_map(|id| self.path_offset_bits(*id, path)).map(|bits| bits / 8)
        })
    }

    /// The type id of a function, by which programs are attached to it.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        let is_it = |start: &u32| {
            let this = self.header_at(*start as usize);
            this.is_some_and(|this| this.kind == kind::FUNC && self.name(this.name) == Some(name.as_bytes()))
        };
        u32::try_from(self.starts.iter().position(is_it)?).ok()
    }

    /// Whether the kernel has a function of this name (since Linux 5.5: only those BTF describes).
    pub fn has_function(&self, name: &str) -> bool {
        self.function(name).is_some()
    }

    /// How many arguments the kernel's function of this name takes.
    pub fn arguments_of(&self, function: &str) -> Option<u32> {
        let prototype = self.type_of(self.function(function)?.target)?;
        (prototype.kind == kind::FUNC_PROTO).then_some(u32::try_from(prototype.members).ok()?)
    }

    fn function(&self, name: &str) -> Option<Type> {
        self.type_of(self.function_id(name)?)
    }

    fn path_offset_bits(&self, composite: u32, path: &str) -> Option<u32> {
        let mut within = composite;
        let mut total: u32 = 0;
        for name in path.split('.') {
            let (offset, type_id) = self.member(within, name.as_bytes(), NESTING_LIMIT)?;
            total = total.checked_add(offset)?;
            within = self.peeled(type_id);
        }
        Some(total)
    }

    /// The offset in bits and the type of `composite`'s member, those of anonymous members included.
    fn member(&self, composite: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let depth = depth.checked_sub(1)?;
        for member in self.members(composite) {
            if member.name != 0 {
                if self.name(member.name) == Some(name) {
                    return Some((member.offset_bits, member.type_id));
                }
            } else if let Some((offset, type_id)) = self.member(self.peeled(member.type_id), name, depth) {
                return Some((member.offset_bits.checked_add(offset)?, type_id));
            }
        }
        None
    }

    fn members(&self, composite: u32) -> impl Iterator<Item = Member> {
        let composite = self
            .starts
            .get(composite as usize)
            .and_then(|start| Some((*start as usize, self.header_at(*start as usize)?)));
        let composite = composite.filter(|(_, this)| matches!(this.kind, kind::STRUCT | kind::UNION));
        let (start, count, packed) =
            composite.map_or((0, 0, false), |(at, this)| (at, this.members, this.packs_bitfields));
        (0..count).map_while(move |index| {
            let at = start + TYPE_HEADER_LEN + (index * MEMBER_LEN);
            let offset = u32_at(self.types, at + 8)?;
            Some(Member {
                name: u32_at(self.types, at)?,
                type_id: u32_at(self.types, at + 4)?,
                offset_bits: if packed { offset & 0x00ff_ffff } else { offset },
            })
        })
    }

    /// The type behind typedefs and qualifiers.
    fn peeled(&self, mut type_id: u32) -> u32 {
        for _ in 0..NESTING_LIMIT {
            match self.type_of(type_id) {
                Some(this) if this.is_wrapper() => type_id = this.target,
                _ => break,
            }
        }
        type_id
    }

    fn type_of(&self, id: u32) -> Option<Type> {
        self.header_at(*self.starts.get(id as usize)? as usize)
    }

    fn header_at(&self, start: usize) -> Option<Type> {
        let header = self.types.get(start..)?;
        let packed = u32_at(header, 4)?;
        Some(Type {
            name: u32_at(header, 0)?,
            // Kernels so far use 5 bits for the kind and 16 for the count, and leave those above at zero.
            kind: (packed >> 24) & 0x7f,
            members: (packed & 0x00ff_ffff) as usize,
            packs_bitfields: (packed >> 31) == 1,
            target: u32_at(header, 8)?,
        })
    }

    fn name(&self, offset: u32) -> Option<&'a [u8]> {
        let text = self.strings.get(offset as usize..)?;
        text.split(|byte| *byte == 0).next()
    }
}

impl Type {
    /// Bytes this type takes, its header included; `None` for an unknown kind.
    const fn encoded_len(self) -> Option<usize> {
        let extra = match self.kind {
            2 | 7..=12 | 16 | kind::TYPE_TAG => 0,
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => self.members * MEMBER_LEN,
            kind::ENUM | kind::FUNC_PROTO => self.members * 8,
            _ => return None,
        };
        Some(TYPE_HEADER_LEN + extra)
    }

    const fn is_wrapper(self) -> bool {
        matches!(self.kind, kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    word.try_into().map(u32::from_ne_bytes).ok()
}

/// The bytes of a section given as (end of the file header, offset from there, length).
fn section<'a>(bytes: &'a [u8], name: &'static str, place: (u32, u32, u32)) -> Result<&'a [u8], BtfError> {
    let start = u64::from(place.0) + u64::from(place.1);
    let end = start + u64::from(place.2);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range.and_then(|(start, end)| bytes.get(start..end)).ok_or(BtfError::Section {
        section: name,
        end,
        length: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::{BtfError, KernelTypes};

    /// Writes BTF as pahole would, so that a test can say what the kernel looks like.
    #[derive(Default)]
    struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Writer {
        fn new() -> Self {
            Self { strings: vec![0], ..Self::default() }
        }

        fn string(&mut self, text: &str) -> u32 {
            if text.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
            at
        }

        fn add(&mut self, name: &str, info: u32, target: u32, extra: &[u32]) -> u32 {
            let name = self.string(name);
            for word in [name, info, target].iter().chain(extra) {
                self.types.extend_from_slice(&word.to_ne_bytes());
            }
            self.count += 1;
            self.count
        }

        fn wrapper(&mut self, kind: u32, name: &str, target: u32) -> u32 {
            self.add(name, kind << 24, target, &[])
        }

        fn composite(&mut self, kind_and_flag: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
            let mut extra = Vec::new();
            for (member, type_id, offset) in members {
                extra.extend([self.string(member), *type_id, *offset]);
            }
            self.add(name, kind_and_flag | members.len() as u32, 64, &extra)
        }

        fn bytes(&self) -> Vec<u8> {
            let types = self.types.len() as u32;
            let mut out = 0xeb9f_u16.to_ne_bytes().to_vec();
            out.extend([1, 0]);
            for word in [24, 0, types, types, self.strings.len() as u32] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            out.extend_from_slice(&self.types);
            out.extend_from_slice(&self.strings);
            out
        }
    }

    const STRUCT: u32 = 4 << 24;
    const UNION: u32 = 5 << 24;
    const PACKED_STRUCT: u32 = STRUCT | (1 << 31);

    /// A kernel with every shape that 6.18 puts around the members read here.
    fn sample() -> Vec<u8> {
        let mut btf = Writer::new();
        let int = btf.add("int", 1 << 24, 4, &[32]);
        let inner = btf.composite(STRUCT, "path", &[("mnt", int, 0), ("dentry", int, 64)]);
        let typedef = btf.wrapper(8, "path_t", inner);
        let qualified = btf.wrapper(10, "", typedef);
        let hidden = btf.composite(UNION, "", &[("f_path", qualified, 0), ("other", int, 0)]);
        let deeper = btf.composite(STRUCT, "", &[("pad", int, 0), ("", hidden, 128)]);
        btf.composite(STRUCT, "file", &[("f_mode", int, 0), ("", deeper, 256)]);
        btf.composite(PACKED_STRUCT, "sock", &[("sk_protocol", int, (8 << 24) | 48)]);
        let looped = btf.count + 1;
        btf.composite(STRUCT, "loop", &[("", looped, 8)]);
        btf.composite(STRUCT, "far", &[("a", int, u32::MAX), ("", inner, u32::MAX)]);
        let prototype = btf.add("", (13 << 24) | 1, 0, &[0, int]);
        btf.wrapper(12, "tcp_connect", prototype);
        btf.bytes()
    }

    fn check(composite: &str, path: &str, expected: Option<u32>) {
        let sample = sample();
        let types = KernelTypes::parse(&sample).expect("the sample is sound");
        assert_eq!(types.offset_of(composite, path), expected, "{composite}.{path}");
    }

    #[test]
    fn offsets_are_found_through_anonymous_members_typedefs_and_qualifiers() {
        check("file", "f_mode", Some(0));
        check("file", "f_path", Some(48));
        check("file", "f_path.dentry", Some(56));
        check("sock", "sk_protocol", Some(6));
        check("file", "f_path.absent", None);
        check("file", "f_mode.dentry", None);
        check("file", "", None);
        check("absent", "f_mode", None);
        check("loop", "anything", None);
        check("far", "dentry", None);
    }

    #[test]
    fn functions_are_told_by_kind_and_name() {
        let sample = sample();
        let types = KernelTypes::parse(&sample).expect("the sample is sound");
        assert!(types.has_function("tcp_connect"));
        assert_eq!(
            types.function_id("tcp_connect").map(|id| types.type_of(id).map(|this| this.kind)),
            Some(Some(12))
        );
        assert_eq!(types.function_id("file"), None);
        assert!(!types.has_function("file"));
        assert_eq!(types.arguments_of("tcp_connect"), Some(1));
        assert_eq!(types.arguments_of("inet_csk_accept"), None);
    }

    #[test]
    fn bytes_that_are_not_btf_are_refused_with_the_place() {
        let check = |bytes: &[u8], expected: BtfError| {
            assert_eq!(KernelTypes::parse(bytes).map(drop), Err(expected));
        };
        check(b"", BtfError::Magic);
        check(b"\x7fELF and then nothing of interest", BtfError::Magic);
        let mut long = sample();
        long[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        let end = 24 + u64::from(u32::MAX);
        check(&long, BtfError::Section { section: "type", end, length: long.len() });
        let mut unknown = Writer::new();
        unknown.wrapper(77, "future", 0);
        check(&unknown.bytes(), BtfError::Kind { kind: 77, offset: 0 });
        let mut cut = Writer::new();
        cut.add("short", STRUCT | 3, 64, &[0, 0, 0]);
        check(&cut.bytes(), BtfError::Truncated { offset: 0 });
    }

    #[test]
    fn damaged_bytes_give_an_error_or_an_answer() {
        let sound = sample();
        for length in 0..sound.len() {
            assert!(KernelTypes::parse(&sound[..length]).is_err(), "cut at {length}");
        }
        let mut readable = 0;
        for place in 0..sound.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = sound.clone();
                damaged[place] = value;
                if let Ok(types) = KernelTypes::parse(&damaged) {
                    readable += usize::from(types.offset_of("file", "f_path.dentry") == Some(56));
                    readable += usize::from(types.has_function("tcp_connect"));
                }
            }
        }
        assert!(readable > 0, "no damaged copy was readable at all: the test looked at nothing");
    }
}
