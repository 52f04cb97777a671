// Fields are folded: a link into a tree opens what is around its target, and two buttons open and close a whole tree.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !target.closest(".fields")) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}

for (const tree of document.querySelectorAll(".fields")) {
  const buttons = document.createElement("p");
  for (const [text, open] of [["Open all", true], ["Close all", false]]) {
    const button = document.createElement("button");
    button.className = "md-button";
    button.textContent = text;
    button.addEventListener("click", () => {
      for (const fold of tree.querySelectorAll("details.field")) fold.open = open;
    });
    buttons.append(button, " ");
  }
  tree.prepend(buttons);
}
addEventListener("hashchange", reveal);
reveal();
