/** What every page gains by a script: buttons that copy, and the number that a slider stands at. */
for (const block of document.querySelectorAll('.code')) {
  const button = document.createElement('button')
  const label = block.querySelector('pre').getAttribute('aria-label')
  button.type = 'button'
  button.textContent = 'Copy'
  button.setAttribute('aria-label', `Copy ${label}`)
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(block.querySelector('code').textContent)
    button.textContent = 'Copied'
    setTimeout(() => {
      button.textContent = 'Copy'
    }, 2000)
  })
  block.append(button)
}

for (const output of document.querySelectorAll('output[for]')) {
  const input = document.getElementById(output.htmlFor.value)
  const show = () => {
    output.value = `${input.value}%`
  }
  input.addEventListener('input', show)
  show()
}
