"""Content filter, masking and sensitivity. `gate.Gate` is the pipeline's one door; a tenant without
a policy is relayed: nothing is read, nothing is held back."""
