"""People label: where their answers are kept, how they are asked, how labels travel."""
