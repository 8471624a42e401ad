//! A shell in the virtual machine, for a person.

use hpetun_tests::vm::Machine;

fn main() {
    let guest = std::env::current_exe()
        .expect("a program knows where it is")
        .with_file_name("vm_guest");
    let status = Machine::new("shell", &guest).shell();
    std::process::exit(status.code().unwrap_or(1));
}
