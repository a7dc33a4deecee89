"""The texts of chapter "Time decay": a short story for its first figure, and three passages on which it measures."""

__all__ = ["PASSAGES", "STORY"]

STORY = (
    "Ada lives in a small house by the river, with two cats and an old piano. Every morning she walks across the "
    "bridge to the school, where she teaches children how to read. In the afternoon she works in the garden, or plays "
    "a song for the cats. When it gets dark, a lamp is lit in the window, and the music is soft. The one who plays is"
)
PASSAGES = {
    "one subject": (
        "The demand for a good is the quantity that consumers are willing to buy at each price. When the price rises, "
        "the quantity demanded falls. The supply of a good is the quantity that producers are willing to sell at each "
        "price. When the price rises, the quantity supplied rises. The equilibrium price is the price at which the "
        "quantity demanded equals the quantity supplied. If the price is above the equilibrium, there is a surplus, "
        "and firms will lower their prices. If the price is below the equilibrium, there is a shortage, and consumers "
        "will compete for the good."
    ),
    "many subjects": (
        "The lungs bring oxygen into the blood, and the heart pumps the blood through the body. Every cell needs "
        "oxygen to turn sugar into energy. A company that sells bread has to pay for flour, for wages and for rent. "
        "When these costs rise, the price of bread will rise as well, and some people will buy less of it. In the "
        "nineteenth century many farmers moved to the cities, where they worked in large factories. A star is a ball "
        "of hot gas that is held together by its own gravity."
    ),
    "a story": STORY + " Ada.",
}
