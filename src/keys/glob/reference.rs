//! A second opinion of the matcher, for tests and fuzzing: Redis' own function, oddities included.

/// `stringmatchlen_impl` of Redis 7, line by line: `p` and `s` are what its pointers point at, and
/// a read behind the pattern gives the NUL that ends an sds.
pub(super) fn redis(mut p: &[u8], mut s: &[u8]) -> bool {
    let at = |p: &[u8], index: usize| p.get(index).copied().unwrap_or(0);
    while !p.is_empty() && !s.is_empty() {
        match p[0] {
            b'*' => {
                while at(p, 1) == b'*' {
                    p = &p[1..];
                }
                if p.len() == 1 {
                    return true;
                }
                while !s.is_empty() {
                    if redis(&p[1..], s) {
                        return true;
                    }
                    s = &s[1..];
                }
                return false;
            }
            b'?' => s = &s[1..],
            b'[' => {
                p = &p[1..];
                let not = at(p, 0) == b'^';
                if not {
                    p = &p[1..];
                }
                let mut matched = false;
                // Where C steps back by one and then forward again, `p` simply stays empty.
                loop {
                    if p.len() >= 2 && p[0] == b'\\' {
                        p = &p[1..];
                        matched |= p[0] == s[0];
                    } else if at(p, 0) == b']' || p.is_empty() {
                        break;
                    } else if p.len() >= 3 && p[1] == b'-' {
                        let (low, high) = (p[0].min(p[2]), p[0].max(p[2]));
                        matched |= s[0] >= low && s[0] <= high;
                        p = &p[2..];
                    } else {
                        matched |= p[0] == s[0];
                    }
                    p = &p[1..];
                }
                if matched == not {
                    return false;
                }
                s = &s[1..];
            }
            byte => {
                if byte == b'\\' && p.len() >= 2 {
                    p = &p[1..];
                }
                if p[0] != s[0] {
                    return false;
                }
                s = &s[1..];
            }
        }
        p = p.get(1..).unwrap_or_default();
        if s.is_empty() {
            while at(p, 0) == b'*' {
                p = &p[1..];
            }
            break;
        }
    }
    p.is_empty() && s.is_empty()
}
