"""Travel suite: a desk that books and changes flights, with fare rules, budgets, connections and children."""
