"""Part by part, what a hostile or clumsy model may try, in every tier of the sandbox that this machine has."""
