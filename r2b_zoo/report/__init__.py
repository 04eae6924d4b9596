"""Everything that is shown to people: the report page of a run, figures, tables, and the progress of training."""
