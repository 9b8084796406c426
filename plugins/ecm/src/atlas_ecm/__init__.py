"""The behavioural reader's plugin: the paired claims of BSA and the records of how models answer them."""
