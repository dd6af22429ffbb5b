"""The paper's tables in small: trained and measured on Moving Shapes at equal budgets. `python -m training.tables`."""
