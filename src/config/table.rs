//! What a table of [`super::written`] is made of its rows: the struct that a file is read into, and
//! what there is to say of each key.
//!
//! In: `/// meaning`, `key "name in TOML": Type = built in, when a change is felt;`. Out: a field
//! `Option<Type>`, and a [`Key`](super::key::Key). What is not written as a row has no key.

macro_rules! table {
    (
        $(#[$doc:meta])*
        $path:literal $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $key:ident $($rename:literal)?: $kind:ty = $built_in:tt, $applies:ident;
            )*
            $(
                tables {
                    $($(#[$table_doc:meta])* $table:ident: $table_kind:ty,)*
                }
            )?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[doc = $meaning])+
                $(#[serde(rename = $rename)])?
                pub $key: Option<$kind>,
            )*
            $($($(#[$table_doc])* pub $table: $table_kind,)*)?
        }

        impl $name {
            /// What is to be said of its keys.
            pub(in crate::config) const KEYS: &[Key] = &[$(Key {
                path: concat!($path, name!($key $($rename)?)),
                values: <$kind as Kind>::VALUES,
                built_in: built_in!($built_in),
                applies: Applies::$applies,
                meaning: concat!($($meaning),+),
            },)*];
        }
    };
}

macro_rules! name {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident $rename:literal) => {
        $rename
    };
}

macro_rules! built_in {
    (()) => {
        BuiltIn::Nothing
    };
    (($words:literal)) => {
        BuiltIn::Found($words)
    };
    ((toml $text:literal)) => {
        BuiltIn::Toml($text)
    };
    ($toml:tt) => {
        BuiltIn::Toml(stringify!($toml))
    };
}

pub(super) use {built_in, name, table};
