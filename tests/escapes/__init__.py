"""What a hostile or clumsy model may try, in every tier of the sandbox here."""
