// SPDX-License-Identifier: GPL-2.0

//! Which instructions matter to persistent memory.
//!
//! QEMU translates write-backs and fences to little or nothing, and tells plugins of memory accesses only. So they are
//! recognised by their bytes when a block is translated: a few opcodes, behind any prefixes that are allowed there.
//!
//! Hazard: an instruction that is missed is a fence or write-back that did not happen, so the explorer would see more crash
//! states than there are, never fewer. One that is taken for a fence and is none hides bugs: hence the tests of near misses.

/// What an instruction is, as far as persistence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stores past the cache (`movnti`, `movntdq`, …): durable after a fence without a write-back.
    NonTemporal,
    /// `clwb`, `clflushopt`, `clflush`: writes back the line of this address.
    WriteBack(Address),
    /// Waits for this CPU's write-backs and non-temporal stores.
    Fence(Fence),
    /// Does nothing; says where a workload is. The byte is the kind of marker.
    Marker(u8),
    /// Anything else.
    Other,
}

/// Kinds of fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fence {
    /// `sfence`
    Store = 0,
    /// `mfence`
    Full = 1,
    /// `lock` prefix, or `xchg` with memory. Orders write-backs and non-temporal stores too, but nobody writes it for that.
    Locked = 2,
    /// `iret`, `cpuid`, `mov` to a control register: serialising instructions. (`wrmsr` is not among them: some of its
    /// registers are exempt.)
    Serialising = 3,
}

/// An effective address: registers by their number in the encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// Base register.
    pub base: Option<u8>,
    /// Index register and the shift of its value.
    pub index: Option<(u8, u8)>,
    /// Displacement; for an address relative to the instruction pointer all of the address.
    pub displacement: u64,
    /// The base of segment FS or GS is added.
    pub segment: Option<Segment>,
    /// Only the lower 32 bits count.
    pub short: bool,
}

/// A segment with a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    Fs,
    Gs,
}

/// The upper three bytes of a marker's displacement: `nopl MARKER | kind(%rax)`.
pub const MARKER: u32 = 0x6f63_6800;

#[derive(Default)]
struct Prefixes {
    operand: bool,
    short: bool,
    repeat: bool,
    lock: bool,
    rex: u8,
    segment: Option<Segment>,
}

/// What the instruction of these bytes is. `next` is the address of the one after it.
pub fn decode(bytes: &[u8], next: u64) -> Kind {
    let mut at = 0;
    let mut p = Prefixes::default();
    loop {
        match bytes.get(at) {
            Some(0x66) => p.operand = true,
            Some(0x67) => p.short = true,
            Some(0xf2 | 0xf3) => p.repeat = true,
            Some(0xf0) => p.lock = true,
            Some(0x64) => p.segment = Some(Segment::Fs),
            Some(0x65) => p.segment = Some(Segment::Gs),
            Some(0x26 | 0x2e | 0x36 | 0x3e) => {}
            _ => break,
        }
        at += 1;
    }
    if let Some(&rex @ 0x40..=0x4f) = bytes.get(at) {
        p.rex = rex;
        at += 1;
    }
    if p.lock {
        return Kind::Fence(Fence::Locked);
    }
    let rest = bytes.get(at..).unwrap_or_default();
    match *rest {
        [0xcf, ..] => Kind::Fence(Fence::Serialising),
        [0x86 | 0x87, modrm, ..] if modrm < 0xc0 => Kind::Fence(Fence::Locked),
        [0x0f, opcode, ref rest @ ..] => two_bytes(opcode, rest, &p, next),
        [0xc5, _, opcode, modrm, ..] => vector(opcode, modrm),
        [0xc4, map, _, opcode, modrm, ..] if map & 0x1f == 1 => vector(opcode, modrm),
        _ => Kind::Other,
    }
}

/// Whether the instruction of these bytes calls: directly, or through a register or memory.
pub fn is_call(bytes: &[u8]) -> bool {
    let prefix = |b: &&u8| matches!(**b, 0x2e | 0x3e | 0x40..=0x4f | 0x66);
    let mut rest = bytes.iter().skip_while(prefix);
    match rest.next() {
        Some(0xe8) => true,
        Some(0xff) => rest.next().is_some_and(|modrm| modrm >> 3 & 7 == 2),
        _ => false,
    }
}

fn vector(opcode: u8, modrm: u8) -> Kind {
    match (opcode, modrm >= 0xc0) {
        (0xe7 | 0x2b, false) | (0xf7, true) => Kind::NonTemporal,
        _ => Kind::Other,
    }
}

fn two_bytes(opcode: u8, rest: &[u8], p: &Prefixes, next: u64) -> Kind {
    let Some(&modrm) = rest.first() else {
        return match opcode {
            0xa2 => Kind::Fence(Fence::Serialising),
            _ => Kind::Other,
        };
    };
    let (register, memory) = (modrm >> 3 & 7, modrm < 0xc0);
    match (opcode, register, memory) {
        (0xa2, ..) => Kind::Fence(Fence::Serialising),
        // Control registers but CR8, whose number needs REX.R.
        (0x22, 0 | 3 | 4, _) if p.rex & 4 == 0 => Kind::Fence(Fence::Serialising),
        (0xae, 6, false) if !p.operand && !p.repeat => Kind::Fence(Fence::Full),
        (0xae, 7, false) if !p.operand && !p.repeat => Kind::Fence(Fence::Store),
        (0xae, 6, true) if p.operand && !p.repeat => Kind::WriteBack(address(rest, p, next)),
        (0xae, 7, true) if !p.repeat => Kind::WriteBack(address(rest, p, next)),
        (0xc3 | 0xe7 | 0x2b, _, true) | (0xf7, _, false) => Kind::NonTemporal,
        (0x1f, 0, true) if modrm == 0x80 => match rest.get(1..5) {
            Some(d) if d[1..] == MARKER.to_le_bytes()[1..] => Kind::Marker(d[0]),
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// The address of a ModRM byte and what follows it.
fn address(rest: &[u8], p: &Prefixes, next: u64) -> Address {
    let modrm = rest[0];
    let (mode, low) = (modrm >> 6, modrm & 7);
    let extend = |bits: u8, rex_bit: u8| bits | (u8::from(p.rex & rex_bit != 0) << 3);
    let mut a = Address {
        segment: p.segment,
        short: p.short,
        ..Address::default()
    };
    let mut at = 1;
    let mut wide = mode == 2;
    if low == 4 {
        let sib = rest.get(1).copied().unwrap_or_default();
        at = 2;
        let index = extend(sib >> 3 & 7, 2);
        if index != 4 {
            a.index = Some((index, sib >> 6));
        }
        if sib & 7 == 5 && mode == 0 {
            wide = true;
        } else {
            a.base = Some(extend(sib & 7, 1));
        }
    } else if low == 5 && mode == 0 {
        wide = true;
        a.displacement = next;
    } else {
        a.base = Some(extend(low, 1));
    }
    let given = match (wide, mode) {
        (true, _) => rest
            .get(at..at + 4)
            .map_or(0, |d| i32::from_le_bytes([d[0], d[1], d[2], d[3]]).into()),
        (_, 1) => rest.get(at).map_or(0, |&d| i64::from(d as i8)),
        _ => 0,
    };
    a.displacement = a.displacement.wrapping_add_signed(given);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: u8) -> Address {
        Address {
            base: Some(base),
            ..Address::default()
        }
    }

    #[test]
    fn write_backs() {
        // clwb [rax]; clwb [r9]; clflushopt [rdi]; clflush [rsi]; the kernel's padded clflush
        assert_eq!(decode(&[0x66, 0x0f, 0xae, 0x30], 0), Kind::WriteBack(at(0)));
        assert_eq!(
            decode(&[0x66, 0x41, 0x0f, 0xae, 0x31], 0),
            Kind::WriteBack(at(9))
        );
        assert_eq!(decode(&[0x66, 0x0f, 0xae, 0x3f], 0), Kind::WriteBack(at(7)));
        assert_eq!(decode(&[0x0f, 0xae, 0x3e], 0), Kind::WriteBack(at(6)));
        assert_eq!(decode(&[0x3e, 0x0f, 0xae, 0x3e], 0), Kind::WriteBack(at(6)));
    }

    #[test]
    fn addresses() {
        // clwb [rdi + rcx * 8 - 0x40]
        let a = Address {
            base: Some(7),
            index: Some((1, 3)),
            displacement: (-0x40i64) as u64,
            ..Address::default()
        };
        assert_eq!(
            decode(&[0x66, 0x0f, 0xae, 0x74, 0xcf, 0xc0], 0),
            Kind::WriteBack(a)
        );
        // clwb [rip + 0x10]
        let a = Address {
            displacement: 0x1010,
            ..Address::default()
        };
        assert_eq!(
            decode(&[0x66, 0x0f, 0xae, 0x35, 0x10, 0, 0, 0], 0x1000),
            Kind::WriteBack(a)
        );
        // clwb [r12 + 0x1000]: needs a SIB byte without an index
        let a = Address {
            displacement: 0x1000,
            ..at(12)
        };
        assert_eq!(
            decode(&[0x66, 0x41, 0x0f, 0xae, 0xb4, 0x24, 0, 0x10, 0, 0], 0),
            Kind::WriteBack(a)
        );
        // clwb gs:[0x20]
        let a = Address {
            displacement: 0x20,
            segment: Some(Segment::Gs),
            ..Address::default()
        };
        assert_eq!(
            decode(&[0x65, 0x66, 0x0f, 0xae, 0x34, 0x25, 0x20, 0, 0, 0], 0),
            Kind::WriteBack(a)
        );
    }

    #[test]
    fn fences() {
        assert_eq!(decode(&[0x0f, 0xae, 0xf8], 0), Kind::Fence(Fence::Store));
        assert_eq!(decode(&[0x0f, 0xae, 0xf0], 0), Kind::Fence(Fence::Full));
        // lock addl $0, -4(%rsp); xchg [rdi], eax; lock cmpxchg
        assert_eq!(
            decode(&[0xf0, 0x83, 0x44, 0x24, 0xfc, 0], 0),
            Kind::Fence(Fence::Locked)
        );
        assert_eq!(decode(&[0x87, 0x07], 0), Kind::Fence(Fence::Locked));
        assert_eq!(
            decode(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f], 0),
            Kind::Fence(Fence::Locked)
        );
        // iretq, cpuid, mov cr3, rax
        assert_eq!(decode(&[0x48, 0xcf], 0), Kind::Fence(Fence::Serialising));
        assert_eq!(decode(&[0x0f, 0xa2], 0), Kind::Fence(Fence::Serialising));
        assert_eq!(
            decode(&[0x0f, 0x22, 0xd8], 0),
            Kind::Fence(Fence::Serialising)
        );
    }

    #[test]
    fn near_misses() {
        // lfence; xchg between registers; fxsave; xsaveopt; tpause; umonitor; incsspq; mov cr8
        for bytes in [
            &[0x0f, 0xae, 0xe8][..],
            &[0x87, 0xc8],
            &[0x0f, 0xae, 0x07],
            &[0x0f, 0xae, 0x37],
            &[0x66, 0x0f, 0xae, 0xf1],
            &[0xf3, 0x0f, 0xae, 0xf1],
            &[0xf3, 0x48, 0x0f, 0xae, 0xe8],
            &[0x44, 0x0f, 0x22, 0xc0],
            // clrssbsy, other nops, movq between registers, plain stores, wrmsr
            &[0xf3, 0x0f, 0xae, 0x30],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
            &[0x0f, 0x1f, 0x44, 0, 0],
            &[0x48, 0x89, 0x07],
            &[0x0f, 0x30],
            &[],
            &[0x66],
        ] {
            assert_eq!(decode(bytes, 0), Kind::Other, "{bytes:x?}");
        }
    }

    #[test]
    fn non_temporal() {
        // movnti [rdi], rax; movntdq [rdi], xmm0; movntps; vmovntdq ymm; vmovntdq with a long prefix
        assert_eq!(decode(&[0x48, 0x0f, 0xc3, 0x07], 0), Kind::NonTemporal);
        assert_eq!(decode(&[0x66, 0x0f, 0xe7, 0x07], 0), Kind::NonTemporal);
        assert_eq!(decode(&[0x0f, 0x2b, 0x07], 0), Kind::NonTemporal);
        assert_eq!(decode(&[0xc5, 0xfd, 0xe7, 0x07], 0), Kind::NonTemporal);
        assert_eq!(
            decode(&[0xc4, 0xc1, 0x7d, 0xe7, 0x00], 0),
            Kind::NonTemporal
        );
    }

    #[test]
    fn calls() {
        // call; cs call (padded); call r8; call [rbx + 0x18]
        assert!(is_call(&[0xe8, 1, 2, 3, 4]));
        assert!(is_call(&[0x2e, 0xe8, 1, 2, 3, 4]));
        assert!(is_call(&[0x41, 0xff, 0xd0]));
        assert!(is_call(&[0xff, 0x53, 0x18]));
        // jmp; jmp rax; push [rdi]; ret
        assert!(!is_call(&[0xe9, 1, 2, 3, 4]));
        assert!(!is_call(&[0xff, 0xe0]));
        assert!(!is_call(&[0xff, 0x37]));
        assert!(!is_call(&[0xc3]));
        assert!(!is_call(&[]));
    }

    #[test]
    fn markers() {
        assert_eq!(
            decode(&[0x0f, 0x1f, 0x80, 0x02, 0x68, 0x63, 0x6f], 0),
            Kind::Marker(2)
        );
    }
}
