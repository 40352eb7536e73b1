"""Floor 3: decode, numbered rules, engine; one module per folder of protocols/."""
