//! What a check finds.

mod compressed;
mod cut_off;
mod damage;
mod data;
mod digest;
mod golden;
mod hostile;
mod limits;
mod live;
mod oracle;
mod shared;
