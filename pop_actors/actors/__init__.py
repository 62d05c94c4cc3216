"""The actor framework: one address and one mailbox for an actor, whether it is a thread here or a process of its own."""
