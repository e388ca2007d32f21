//! README's table is the one that the kept receipt makes.

use std::fs;
use std::path::Path;

use receipt::table;

#[test]
fn the_table_in_readme_is_made_from_the_newest_receipt() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = fs::read_to_string(root.join("README.md")).unwrap();
    let made = table::of_results(&root.join("bench/results")).unwrap();
    let with_table = table::put(&document, &made).expect("README.md has the marks of the table");
    assert!(document == with_table, "README's table is another: run `make readme-table`\n{made}");
}
