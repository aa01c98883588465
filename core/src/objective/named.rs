//! Options that are one of a few names.

/// `Display` and `FromStr` of a type that has `ALL` and `name()`; `option` and `expected` are what the error says of another name.
macro_rules! named {
    ($type:ty, $option:literal, $expected:literal) => {
        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl core::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                let found = <$type>::ALL.into_iter().find(|value| value.name() == name);
                found.ok_or($crate::Error::BadOption { option: $option, expected: $expected })
            }
        }
    };
}

pub(super) use named;
