"""A town that happens, told: a small simulation makes events, a narrator tells them, a parser reads them back."""
