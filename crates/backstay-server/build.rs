//! Builds anew when a file of the dashboard comes or goes.

fn main() {
    println!("cargo:rerun-if-changed=../../ui/dist");
}
