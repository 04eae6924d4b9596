"""What people look at: the page of a run, figures, tables, and the progress of training."""
