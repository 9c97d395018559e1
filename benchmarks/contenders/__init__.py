"""One file a contender: `name`, and `recommend(train, k) -> rows [n_users, k]`, best first, training items left out."""
