"""SeqDance: protein dynamics from sequence."""
