"""From a raw log to validated interactions: reading, rules, the table, splitting, and a synthetic world."""
