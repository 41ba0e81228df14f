//! What keeps a SQLite file honest, for other files of ours than that of the objects.
//!
//! In this order: [`examine`] the log, [`Database::prepare`] the file, open the [`Mark`], read what has to be read, begin to
//! write. Each row carries a sum of its content ([`sum_parts`]), [`check`] looks at the structure, and [`Readers`] lend
//! connections to who only reads. The path of the file has to be in a folder that one process owns.

pub use crate::database::{Database, Layout};
pub use crate::folder::{make as make_folder, sync as sync_folder};
pub use crate::mark::Mark;
pub use crate::readers::Readers;
pub use crate::rows::sum_parts;
pub use crate::scan::check;
pub use crate::schema::Identity;
pub use crate::wal::examine;
