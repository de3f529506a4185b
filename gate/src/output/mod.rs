//! One report in every form that CI reads. Each is a function of the report alone, so no two can disagree.

pub(crate) mod badge;
pub(crate) mod codequality;
pub(crate) mod cyclonedx;
pub(crate) mod junit;
pub(crate) mod sarif;
pub(crate) mod summary;
pub(crate) mod table;
