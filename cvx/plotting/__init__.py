"""Colors, fonts, labels and panels of every figure that cvx draws as pixels."""
